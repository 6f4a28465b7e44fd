"""One flipped byte anywhere below a table: `verify` says so, or the byte does not matter."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import caption, compact, verify
from pipeline.config import CaptionConfig
from pipeline.errors import TableError

FLIPS, MANY = 6, 50
"""Offsets a file, in the quick test and in the slow one."""


@pytest.fixture
def table(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes]
) -> Path:
    """With a log of changes, a refresh half of whose parts are kept, and deleted pictures."""
    (folder / "bad.jpg").write_bytes(b"no picture")
    config = config.model_copy(update={"unit_size": 6})
    caption(config, [folder], tmp_path / "first", stub())
    (folder / "00.jpg").unlink()
    (folder / "03.jpg").write_bytes(picture(77))
    caption(config, [folder], tmp_path / "first", stub())
    compact(tmp_path / "first", tmp_path / "table", rows=6)
    caption(config, [folder], tmp_path / "table", stub(fingerprint="new"), refresh=True)
    return tmp_path / "table"


def spoilt(path: Path, offsets: list[int], moments: random.Random) -> Iterator[int]:
    """The file with one byte other than it was, at each of the offsets; then as it was."""
    whole = path.read_bytes()
    for offset in offsets:
        content = bytearray(whole)
        content[offset] ^= moments.randrange(1, 256)
        path.write_bytes(content)
        yield offset
    path.write_bytes(whole)


def matters(path: Path, whole: bytes) -> bool:
    """False for a byte of JSON's white space or of the way in which a value is written."""
    if path.suffix == ".json":
        try:
            return bool(json.loads(path.read_bytes()) != json.loads(whole))
        except ValueError:
            return True
    return True


def missed(table: Path, most: int) -> list[tuple[str, int]]:
    """Files and offsets where `verify` has not noticed another byte."""
    moments, found = random.Random(0), []
    for path in sorted(table.rglob("*")):
        if not path.is_file() or path.name == ".lock":
            continue
        whole = path.read_bytes()
        offsets = list(range(len(whole)))
        if len(offsets) > most:
            offsets = moments.sample(offsets, most)
        for offset in spoilt(path, offsets, moments):
            try:
                verify(table)
            except TableError:
                continue
            if matters(path, whole):
                found.append((str(path.relative_to(table)), offset))
    return found


def test_one_flipped_byte_of_any_file_is_found(table: Path) -> None:
    kinds = {path.parent.name for path in table.rglob("*.*") if path.is_file()}
    assert kinds >= {"_plan", "_changes", "_recipes", "_receipts", "_previous", "table"}
    assert (table / "_compact.json").exists()
    verify(table)
    assert missed(table, FLIPS) == []
    verify(table)


@pytest.mark.slow
def test_many_flipped_bytes_of_every_file(table: Path) -> None:
    assert missed(table, MANY) == []


@pytest.mark.parametrize("place", ["_plan", "_changes"])
def test_a_lost_file_of_the_plan_is_named(
    table: Path, folder: Path, config: CaptionConfig, stub: Any, place: str
) -> None:
    (folder / "new.jpg").write_bytes((folder / "06.jpg").read_bytes())
    (folder / "06.jpg").unlink()
    caption(config, [folder], table, stub(fingerprint="new"))
    files = sorted((table / place).iterdir())
    assert len(files) >= 2
    number = files[0].name.partition("-")[0]
    files[0].unlink()
    for run in (lambda: verify(table), lambda: caption(config, [folder], table, stub())):
        with pytest.raises(TableError, match=f"has no file {number}, but {files[1].name}"):
            run()


def test_files_of_an_earlier_version_have_no_digest_and_pass(table: Path) -> None:
    for path in [*(table / "_plan").iterdir(), *(table / "_changes").iterdir()]:
        path.rename(path.with_name(f"{path.name.partition('-')[0]}.parquet"))
    for path in [*(table / "_recipes").iterdir(), table / "_report.json", table / "_compact.json"]:
        told = json.loads(path.read_text())
        del told["digest"]
        path.write_text(json.dumps(told))
    for path in (table / "_previous").glob("0*.json"):
        path.unlink()
    verify(table)
