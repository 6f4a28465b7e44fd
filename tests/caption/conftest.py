from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pytest
from PIL import Image

from pipeline.caption import Loader, process
from pipeline.config import CaptionConfig


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def load_beside() -> Callable[[str], ModuleType]:
    """A module of this folder."""

    def load(name: str) -> ModuleType:
        return sys.modules.get(name) or _load(name)

    return load


@pytest.fixture(scope="session")
def stub() -> Callable[..., Any]:
    return _load("stub_captioner").StubCaptioner


@pytest.fixture
def config() -> CaptionConfig:
    return CaptionConfig(unit_size=4, batch_size=3)


def _picture(seed: int, kind: str = "JPEG", size: tuple[int, int] = (24, 18)) -> bytes:
    random = np.random.default_rng(seed)
    colour = random.integers(0, 256, 3)
    pixels = np.broadcast_to(colour, (size[1], size[0], 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    return _picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten pictures, some in subfolders."""
    root = tmp_path / "photos"
    for number in range(10):
        path = root / ("", "b", "b/c d")[number % 3] / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_picture(number))
    return root


def _tar(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture(scope="session")
def make_tar() -> Callable[..., Path]:
    return _tar


def _zip(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


@pytest.fixture(scope="session")
def make_zip() -> Callable[..., Path]:
    return _zip


@pytest.fixture(scope="session")
def rows() -> Callable[[Path], list[dict[str, Any]]]:
    """A table's rows as a stranger reads them: the plain glob."""

    def read(table: Path) -> list[dict[str, Any]]:
        parts = sorted(str(path) for path in table.glob("*.parquet"))
        found: list[dict[str, Any]] = ds.dataset(parts, format="parquet").to_table().to_pylist()
        return found

    return read


@pytest.fixture(scope="session")
def by_member(rows: Callable[[Path], list[dict[str, Any]]]) -> Callable[[Path], dict[str, Any]]:
    """Rows by member name; fails on names that occur twice."""

    def read(table: Path) -> dict[str, Any]:
        found = rows(table)
        named = {row["member"]: row for row in found}
        assert len(named) == len(found)
        return named

    return read


@pytest.fixture
def parts() -> Callable[[Path], dict[str, bytes]]:
    def read(table: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(table.glob("*.parquet"))}

    return read


@pytest.fixture
def report() -> Callable[[Path], dict[str, Any]]:
    def read(table: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((table / "_report.json").read_text())
        return found

    return read


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Loader]:
    """Loaders of captioners that need no torch, so that a process starts in half a second."""
    paths = [str(Path(__file__).parent / "light"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    def loader(function: str = "captioner", **arguments: Any) -> Loader:
        return Loader(function=f"light_captioner:{function}", arguments=arguments)

    return loader


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How each process that died ended."""
    ends: list[str] = []
    autopsy = process.Process.autopsy

    def noted(self: process.Process) -> tuple[str, bool]:
        how, crashed = autopsy(self)
        ends.append(how)
        return how, crashed

    monkeypatch.setattr(process.Process, "autopsy", noted)
    return ends
