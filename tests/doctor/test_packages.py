"""Versions simulated by the metadata of distributions that stand before the real ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.doctor import Finding, Inputs, packages

INPUTS = Inputs(work="/w")
PYPROJECT = """
[project]
requires-python = ">=3.11,<3.14"
dependencies = ["torch>=2.11", "torchvision>=0.26", "fastapi<0.151", "mlflow>=3.13,<4"]
[project.optional-dependencies]
s3 = ["s3fs>=2025.9"]
odd = ["no-such-thing>=1"]
dev = ["pytest>=1"]
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])

    def make(name: str, version: str, *requires: str) -> None:
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
        (info / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(lines) + "\n")

    return make


def found(checkout: Path) -> list[Finding]:
    (checkout / "pyproject.toml").write_text(PYPROJECT)
    return list(packages.check(INPUTS, checkout))


def bad(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(each.status, each.text) for each in findings if each.status != "ok"]


def test_this_environment_has_what_the_program_asks_for(tmp_path: Path) -> None:
    findings = found(tmp_path)
    assert not [text for status, text in bad(findings) if status == "wrong"]
    extras = next(each.text for each in findings if each.subject == "extras")
    assert "not: odd (pip install 'captionmill[NAME]')" in extras
    assert "dev" not in extras


def test_a_cpu_only_torch_beside_an_ordinary_torchvision_is_wrong(
    install: Install, tmp_path: Path
) -> None:
    install("torch", "2.13.0+cpu")
    install("torchvision", "0.29.2", "torch==2.15.0")
    texts = bad(found(tmp_path))
    assert (
        "wrong",
        "torch 2.13.0+cpu and torchvision 0.29.2 are of different builds; one cannot load the other",
    ) in texts
    assert ("wrong", "torchvision asks for torch==2.15.0; here is 2.13.0+cpu") in texts


def test_versions_beyond_the_bounds_are_wrong(install: Install, tmp_path: Path) -> None:
    install("fastapi", "0.165.0")
    findings = found(tmp_path)
    (line,) = [each for each in findings if each.status == "wrong"]
    assert line.text == "fastapi 0.165.0 is not <0.151"
    assert line.mend == "pip install 'fastapi<0.151'"


def test_an_extra_that_is_too_old_is_wrong(install: Install, tmp_path: Path) -> None:
    install("s3fs", "2024.1.0")
    assert ("wrong", "s3fs 2024.1.0 is not >=2025.9") in bad(found(tmp_path))


def test_a_package_that_is_missing_is_wrong_and_an_optional_one_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = packages._version
    absent = {"mlflow", "torch"}
    monkeypatch.setattr(packages, "_version", lambda name: None if name in absent else real(name))
    texts = dict(reversed(each) for each in bad(found(tmp_path)))
    assert texts["torch is not installed"] == "wrong"
    assert texts["mlflow is not installed: no tracking, the registry and promotion"] == "warning"


def test_another_python_is_wrong(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.14.1")
    assert ("wrong", "3.14.1 is not >=3.11,<3.14") in bad(found(tmp_path))


def test_what_differs_from_the_lock_is_named(install: Install, tmp_path: Path) -> None:
    install("left", "1.0")
    install("right", "2.0")
    (tmp_path / "requirements.lock").write_text(
        "# made by a tool\nleft==1.0\nright==2.1 ; python_full_version >= '3.0'\n"
        "elsewhere==1 ; sys_platform == 'win32'\nabsent==3\n"
    )
    texts = [each.text for each in found(tmp_path) if each.subject == "lock"]
    assert texts == ["other versions than were tested: right 2.0 (locked 2.1)"]


def test_bounds_are_read_from_the_metadata_of_a_wheel(install: Install, tmp_path: Path) -> None:
    install("captionmill", "9.9", "fastapi<0.1", 's3fs>=2999; extra == "s3"')
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    texts = bad(list(packages.check(INPUTS, nowhere)))
    assert any(text.endswith("is not <0.1") for _, text in texts)
    assert any(text.endswith("is not >=2999") for _, text in texts)
