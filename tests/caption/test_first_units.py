"""An archive's first units are small, so that the first rows come early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.caption import caption
from pipeline.caption.table import Table
from pipeline.config import CaptionConfig


def sizes(table: Path) -> list[int]:
    return [len(unit.members) for unit in Table(table).units()]


def add(folder: Path, names: range, picture: Any) -> None:
    folder.mkdir(exist_ok=True)
    for number in names:
        (folder / f"{number:04d}.jpg").write_bytes(picture(number))


def test_they_grow_to_the_size_of_the_others(tmp_path: Path, stub: Any, picture: Any) -> None:
    folder, table = tmp_path / "photos", tmp_path / "t"
    add(folder, range(350), picture)
    config = CaptionConfig(unit_size=100, batch_size=50)
    caption(config, [folder], table, stub())
    assert sizes(table) == [32, 64, 100, 100, 54]
    # What comes later is of an archive that has its first rows already.
    add(folder, range(350, 500), picture)
    caption(config, [folder], table, stub())
    assert sizes(table) == [32, 64, 100, 100, 54, 100, 50]


def test_small_units_are_as_asked_for(folder: Path, tmp_path: Path, stub: Any) -> None:
    caption(CaptionConfig(unit_size=4), [folder], tmp_path / "t", stub())
    assert sizes(tmp_path / "t") == [4, 4, 2]
