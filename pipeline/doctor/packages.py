"""Python and packages: against this program's own bounds, each other, and the lock file."""

from __future__ import annotations

import platform
import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAME = "captionmill"
OPTIONAL = {
    "prefect": "retrain, demo and deployments",
    "mlflow": "tracking, the registry and promotion",
    "webdataset": "tests",
    "pycocotools": "tests",
}
"""What a machine that only trains, scores or captions may lack, and what does not work then."""
CHECKOUT = Path(__file__).parents[2]
SHOWN = 6


class Asked(NamedTuple):
    """What this program asks for: a line a requirement, by extra; the empty one is always meant."""

    python: str
    lines: dict[str, list[str]]

    @classmethod
    def read(cls, own: metadata.Distribution, checkout: Path) -> Asked:
        """From pyproject.toml, which may be newer than the metadata of an installed checkout."""
        file = checkout / "pyproject.toml"
        if file.is_file():
            project = tomllib.loads(file.read_text(encoding="utf-8"))["project"]
            extras = project["optional-dependencies"]
            return cls(project["requires-python"], {"": project["dependencies"], **extras})
        lines: dict[str, list[str]] = {"": []}
        for line in own.requires or []:
            found = re.fullmatch(r"(.*?);\s*(?:(.*) and )?extra == ['\"]([^'\"]+)['\"]", line)
            bare, marker, extra = found.groups() if found else (line, None, "")
            lines.setdefault(extra, []).append(f"{bare}; {marker}" if marker else bare)
        return cls(str(own.metadata.json.get("requires_python", "")), lines)


def check(inputs: Inputs, checkout: Path = CHECKOUT) -> Iterator[Finding]:
    """Compare what is installed with what is asked for."""
    del inputs
    try:
        own = metadata.distribution(NAME)
    except metadata.PackageNotFoundError:
        yield wrong(
            "packages", "captionmill is not installed here", "pip install -e . or make install"
        )
        return
    try:
        from packaging.requirements import Requirement
        from packaging.specifiers import SpecifierSet
    except ImportError:
        yield warning("packages", "versions were not compared", "pip install packaging")
        return
    python, asked = platform.python_version(), Asked.read(own, checkout)
    if python in SpecifierSet(asked.python):
        yield ok("python", f"{python} on {platform.platform(terse=True)}")
    else:
        yield wrong("python", f"{python} is not {asked.python}", "make PYTHON=python3.11 install")

    plain = [Requirement(line) for line in asked.lines[""]]
    unmet = list(_unmet(plain))
    yield from unmet
    if not unmet:
        yield ok("packages", f"captionmill {own.version} and the {len(plain)} packages it names")
    yield from _pairs(plain)
    yield from _extras(
        {name: lines for name, lines in asked.lines.items() if name not in ("", "dev")}
    )
    yield from _locked(checkout / "requirements.lock")


def _unmet(requirements: Iterable[Requirement]) -> Iterator[Finding]:
    for each in requirements:
        found = _version(each.name)
        asked = f"{each.name}{each.specifier}"
        if found is None and each.name in OPTIONAL:
            what = f"{each.name} is not installed: no {OPTIONAL[each.name]}"
            yield warning("packages", what, f"pip install '{asked}'")
        elif found is None:
            yield wrong("packages", f"{each.name} is not installed", f"pip install '{asked}'")
        elif not each.specifier.contains(found, prereleases=True):
            text = f"{each.name} {found} is not {each.specifier}"
            yield wrong("packages", text, f"pip install '{asked}'")


def _pairs(plain: Iterable[Requirement]) -> Iterator[Finding]:
    """What the packages ask of each other; torch and torchvision must be of one build."""
    from packaging.requirements import Requirement

    torch, vision = _version("torch"), _version("torchvision")
    if torch and vision and ("+cpu" in torch) != ("+cpu" in vision):
        yield wrong(
            "torch",
            f"torch {torch} and torchvision {vision} are of different builds; one cannot load the other",
            "reinstall both from the same index: pip install --force-reinstall torch torchvision",
        )
    for owner in plain:
        try:
            lines = metadata.requires(owner.name) or []
        except metadata.PackageNotFoundError:
            continue
        for each in map(Requirement, lines):
            if each.marker is not None and not each.marker.evaluate({"extra": ""}):
                continue
            found = _version(each.name)
            if found is not None and each.specifier.contains(found, prereleases=True):
                continue
            text = f"{owner.name} asks for {each.name}{each.specifier}; here is {found or 'none'}"
            says = wrong if {owner.name, each.name} == {"torch", "torchvision"} else warning
            yield says(owner.name, text, f"pip install '{each.name}{each.specifier}'")


def _extras(lines: dict[str, list[str]]) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    here, absent = [], []
    for name, asked in lines.items():
        parts = [Requirement(line) for line in asked]
        if any(_version(part.name) is None for part in parts):
            absent.append(name)
        else:
            here.append(name)
            yield from _unmet(parts)
    text = f"installed: {', '.join(here) or 'none'}"
    if absent:
        text += f"; not: {', '.join(absent)} (pip install 'captionmill[NAME]')"
    yield ok("extras", text)


def _locked(lock: Path) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    if not lock.is_file():
        return  # installed from a wheel
    lines = lock.read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    other = []
    for pin in pins:
        found = _version(pin.name)
        meant = pin.marker is None or pin.marker.evaluate()
        if meant and found is not None and not pin.specifier.contains(found, prereleases=True):
            other.append(f"{pin.name} {found} (locked {str(pin.specifier).removeprefix('==')})")
    if not other:
        yield ok("lock", f"what is installed has the versions of {lock.name}")
        return
    more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
    yield warning(
        "lock",
        f"other versions than were tested: {', '.join(other[:SHOWN])}{more}",
        f"pip install --no-deps -r {lock.name}, or make install",
    )


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
