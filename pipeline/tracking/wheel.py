"""This program as a wheel, made of the very files that are running; the same bytes every time.

A registered model carries it, so that it can be loaded where the program is not installed, and by
the version that made it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import zipfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from pipeline.errors import ConfigError

NAME = "captionmill"
PACKAGES = ("flows", "pipeline")
TIME = (2020, 1, 1, 0, 0, 0)
"""Of every member: a wheel must not differ by when it was packed."""


@functools.cache
def wheel() -> tuple[str, bytes]:
    """(file name, bytes) of the wheel.

    Raises:
        ConfigError: the program is not installed, so that its requirements are unknown.
    """
    try:
        installed = distribution(NAME)
    except PackageNotFoundError:
        raise ConfigError(
            "captionmill is not installed, so that a model's requirements are unknown: pip install -e ."
        ) from None
    info = f"{NAME}-{installed.version}.dist-info"
    members = {**_sources(), **_metadata(installed, info)}
    record = [f"{name},{_digest(data)},{len(data)}" for name, data in sorted(members.items())]
    members[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            member = zipfile.ZipInfo(name, TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return f"{NAME}-{installed.version}-py3-none-any.whl", out.getvalue()


def _sources() -> dict[str, bytes]:
    root = Path(__file__).parents[2]
    paths = sorted(
        path
        for package in PACKAGES
        for path in (root / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    )
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def _metadata(installed: Distribution, info: str) -> dict[str, bytes]:
    entry_points = installed.read_text("entry_points.txt") or ""
    tags = "Wheel-Version: 1.0\nGenerator: captionmill\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    return {
        f"{info}/METADATA": (installed.read_text("METADATA") or "").encode(),
        f"{info}/WHEEL": tags.encode(),
        f"{info}/entry_points.txt": entry_points.encode(),
        f"{info}/top_level.txt": "".join(f"{name}\n" for name in PACKAGES).encode(),
    }


def _digest(data: bytes) -> str:
    found = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=")
    return f"sha256={found.decode()}"
