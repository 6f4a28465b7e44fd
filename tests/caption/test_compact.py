"""`compact`: the same rows in fewer parts, as a table that can be checked and gone on with."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.caption import caption, compact, rollback, verify
from pipeline.caption.table import Table
from pipeline.config import CaptionConfig
from pipeline.errors import BusyError, TableError

Rows = Callable[[Path], list[dict[str, Any]]]
ByMember = Callable[[Path], dict[str, Any]]
Parts = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def table(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes]
) -> Path:
    """Two archives, and a past: grown, changed, pruned, a picture deleted, two models."""
    place = tmp_path / "t"
    other = tmp_path / "other"
    other.mkdir()
    for number in range(5):
        (other / f"{number}.png").write_bytes(picture(number + 20, "PNG"))
    caption(config, [folder, other], place, stub())
    (folder / "00.jpg").write_bytes(picture(52) + b"changed")
    (folder / "b" / "01.jpg").unlink()
    (folder / "zz.jpg").write_bytes(picture(53))
    caption(config, [folder, other], place, stub(model_version="4", fingerprint="4"), prune=True)
    (folder / "06.jpg").unlink()
    caption(config, [folder, other], place, stub(model_version="4", fingerprint="4"))
    return place


def in_plan_order(table: Path, rows: Rows) -> list[dict[str, Any]]:
    found = {(row["source"], row["member"], row["occurrence"]): row for row in rows(table)}
    return [found[key] for unit in Table(table).units() for key in unit.keys()]  # noqa: SIM118


def test_the_rows_are_the_same_in_the_order_of_the_plan(
    table: Path, tmp_path: Path, rows: Rows, parts: Parts
) -> None:
    before = parts(table)
    expected = in_plan_order(table, rows)
    for size, names in ((4, 6), (1000, 3), (1, 15)):
        to = tmp_path / f"to-{size}"
        report = compact(table, to, size)
        assert (report.discovered, report.units, report.deleted) == (15, names, 1)
        found = parts(to)
        assert len(found) == names
        assert [row for name in sorted(found) for row in pq.read_table(to / name).to_pylist()] == (
            expected
        )
        assert verify(to).discovered == 15
    assert parts(table) == before


def test_captioning_goes_on_in_a_compacted_table(
    table: Path, folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, by_member: ByMember,
    parts: Parts, picture: Callable[..., bytes],
) -> None:  # fmt: skip
    to = tmp_path / "large"
    compact(table, to)
    compacted = parts(to)
    captioner = stub(model_version="4", fingerprint="4")
    caption(config, [folder, tmp_path / "other"], to, captioner)
    assert captioner.shapes == []
    assert parts(to) == compacted
    (folder / "new.jpg").write_bytes(picture(60))
    (folder / "zz.jpg").unlink()
    caption(config, [folder], to, stub(model_version="5", fingerprint="5"), refresh=True)
    rows = by_member(to)
    assert {name for name, row in rows.items() if not row["in_archive"]} == {"06.jpg", "zz.jpg"}
    assert rows["00.jpg"]["model_version"] == rows["new.jpg"]["model_version"] == "5"
    assert verify(to).discovered == 16
    rollback(to)
    assert verify(to).discovered == 16


def test_compacting_again_changes_nothing_and_other_rows_are_refused(
    table: Path, folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any,
    picture: Callable[..., bytes],
) -> None:  # fmt: skip
    to = tmp_path / "large"
    compact(table, to)
    before = {path: path.stat().st_mtime_ns for path in to.rglob("*") if path.name != ".lock"}
    compact(table, to)
    after = {path: path.stat().st_mtime_ns for path in to.rglob("*") if path.name != ".lock"}
    assert after == before
    with pytest.raises(TableError, match=r"another number of rows a part \(65,536\)"):
        compact(table, to, 7)
    (folder / "new.jpg").write_bytes(picture(60))
    caption(config, [folder], table, stub(model_version="4", fingerprint="4"))
    with pytest.raises(TableError, match="begun from other rows"):
        compact(table, to)


def test_what_cannot_be_compacted_is_said(
    table: Path, tmp_path: Path, folder: Path, config: CaptionConfig, stub: Any
) -> None:
    with pytest.raises(TableError, match="is not a caption table"):
        compact(tmp_path / "nothing", tmp_path / "large")
    for inside in (table, table / "large"):
        with pytest.raises(TableError, match="lies in the table itself"):
            compact(table, inside)
    caption(config, [folder], tmp_path / "another", stub())
    with pytest.raises(TableError, match="is a caption table already"):
        compact(table, tmp_path / "another")
    with pytest.raises(TableError, match="is not a caption table: it holds"):
        compact(table, folder)
    assert not (folder / ".lock").exists()
    with storage.lock(tmp_path / "busy"), pytest.raises(BusyError):
        compact(table, tmp_path / "busy")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(table, unfinished)
    part = sorted(unfinished.glob("part-*"))[0]
    Table(unfinished).receipt(part.stem.removeprefix("part-")).unlink()
    with pytest.raises(TableError, match="unfinished units"):
        compact(unfinished, tmp_path / "large")
    shutil.copytree(table, tmp_path / "forgetful")
    sorted((tmp_path / "forgetful" / "_plan").iterdir())[-1].unlink()
    with pytest.raises(TableError, match="belongs to no planned unit, and would be left out"):
        compact(tmp_path / "forgetful", tmp_path / "large")
    part = sorted(table.glob("part-*"))[1]
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(TableError, match=rf"{part.name} is not the file that its receipt tells of"):
        compact(table, tmp_path / "large")
