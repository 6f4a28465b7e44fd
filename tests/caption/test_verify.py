"""`verify` names what is wrong, and running again makes it right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.caption import caption, verify
from pipeline.caption.sealed import seal, unseal
from pipeline.caption.table import Table
from pipeline.config import CaptionConfig
from pipeline.errors import TableError

Parts = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def table(folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any) -> Path:
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_bytes(b"x")
    caption(config, [folder], tmp_path / "table", stub())
    return tmp_path / "table"


def part(table: Path, number: int = 1) -> Path:
    return sorted(table.glob("part-*.parquet"))[number]


def test_a_whole_table_passes_and_is_not_touched(table: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in table.rglob("*")}
    report = verify(table)
    assert (report.discovered, report.captioned, report.units) == (12, 10, 3)
    assert (report.failed, report.skipped) == ({"not_an_image": 1}, {"other_file_type": 1})
    assert {p: p.stat().st_mtime_ns for p in table.rglob("*")} == before


def test_a_copy_elsewhere_passes(table: Path, tmp_path: Path) -> None:
    shutil.copytree(table, tmp_path / "copy")
    assert verify(tmp_path / "copy").discovered == 12


def test_one_flipped_bit_anywhere_in_a_part_is_found(table: Path) -> None:
    path = part(table)
    whole = path.read_bytes()
    for position in range(0, len(whole), 211):
        spoilt = bytearray(whole)
        spoilt[position] ^= 4
        path.write_bytes(spoilt)
        with pytest.raises(TableError, match=rf"{path.name} is not the file"):
            verify(table)


def test_a_missing_or_cut_part_is_found_and_made_again(
    table: Path, folder: Path, config: CaptionConfig, stub: Any, parts: Parts
) -> None:
    whole = parts(table)
    part(table, 0).unlink()
    with open(part(table, 0), "r+b") as file:
        file.truncate(100)
    with pytest.raises(TableError) as caught:
        verify(table)
    first, second = list(whole)[:2]
    assert "fails verification (2 problems)" in str(caught.value)
    assert f"{first} is missing (4 rows)" in str(caught.value)
    assert f"{second} is not the file that its receipt tells of" in str(caught.value)
    assert "run `captionmill caption` again" in str(caught.value)
    report = caption(config, [folder], table, stub())
    assert report.units_reused == 1
    assert parts(table) == whole
    assert verify(table).discovered == 12


def test_a_key_that_occurs_twice_is_found(table: Path) -> None:
    path = part(table)
    rows = pq.read_table(path)
    twice = pa.concat_tables([rows.slice(0, rows.num_rows - 1), rows.slice(0, 1)])
    pq.write_table(twice, path)
    unit = path.stem.removeprefix("part-")
    receipt = Table(table).load_receipt(unit)
    assert receipt is not None
    forged = {"sha256": storage.sha256_file(path), "bytes": path.stat().st_size}
    receipt.model_copy(update=forged).save(Table(table).receipt(unit))
    with pytest.raises(TableError, match=r"not the 4 planned keys; \('photos', .* occurs twice"):
        verify(table)


def test_a_part_that_no_unit_planned_is_found(table: Path) -> None:
    shutil.copy(part(table), table / "part-copy.parquet")
    with pytest.raises(TableError, match=r"part-copy\.parquet belongs to no planned unit"):
        verify(table)


def test_a_receipt_that_counts_otherwise_is_found(table: Path) -> None:
    unit = part(table).stem.removeprefix("part-")
    receipt = Table(table).load_receipt(unit)
    assert receipt is not None
    receipt.model_copy(update={"captioned": receipt.captioned + 1}).save(Table(table).receipt(unit))
    with pytest.raises(TableError, match="counts otherwise than its receipt"):
        verify(table)


def test_lost_receipts_are_rebuilt_from_the_parts(
    table: Path, folder: Path, config: CaptionConfig, stub: Any
) -> None:
    receipts = {p: p.read_bytes() for p in (table / "_receipts").iterdir()}
    moments = {p: p.stat().st_mtime_ns for p in table.glob("*.parquet")}
    shutil.rmtree(table / "_receipts")
    with pytest.raises(TableError, match=r"3 problems.*\n.*has no receipt"):
        verify(table)
    captioner = stub()
    report = caption(config, [folder], table, captioner)
    assert captioner.shapes == []
    assert report.units_reused == 3
    assert {p: p.read_bytes() for p in (table / "_receipts").iterdir()} == receipts
    assert {p: p.stat().st_mtime_ns for p in table.glob("*.parquet")} == moments
    assert verify(table).discovered == 12


def test_a_receipt_is_not_rebuilt_from_a_damaged_or_foreign_part(
    table: Path, folder: Path, config: CaptionConfig, stub: Any, parts: Parts
) -> None:
    whole = parts(table)
    for position in range(4, len(whole[part(table).name]), 499):
        shutil.rmtree(table / "_receipts")
        spoilt = bytearray(part(table).read_bytes())
        spoilt[position] ^= 4
        part(table).write_bytes(spoilt)
        shutil.copy(part(table, 2), part(table, 0))
        assert caption(config, [folder], table, stub()).units_reused >= 1
        now = parts(table)
        assert now[part(table, 0).name] == whole[part(table, 0).name]
        rows = [pq.read_table(part(table)), pq.read_table(pa.BufferReader(whole[part(table).name]))]
        assert rows[0].equals(rows[1])
        part(table).write_bytes(whole[part(table).name])


def test_an_unfinished_table_does_not_pass(table: Path) -> None:
    (table / "_report.json").unlink()
    with pytest.raises(TableError, match=r"_report\.json is missing: no run has ended"):
        verify(table)
    (table / "_report.json").write_text("{")
    with pytest.raises(TableError, match="is damaged"):
        verify(table)


def test_a_report_that_tells_otherwise_is_found_and_made_again(
    table: Path, folder: Path, config: CaptionConfig, stub: Any
) -> None:
    saved = unseal(storage.read_json(table / "_report.json"))
    storage.commit_json(table / "_report.json", seal(saved | {"captioned": 11}))
    with pytest.raises(TableError, match="tells captioned 11, the parts 10"):
        verify(table)
    caption(config, [folder], table, stub())
    assert verify(table).captioned == 10


def test_a_damaged_plan_is_an_error_that_names_the_file(
    table: Path, folder: Path, config: CaptionConfig, stub: Any
) -> None:
    (path,) = (table / "_plan").iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    for run in (lambda: verify(table), lambda: caption(config, [folder], table, stub())):
        with pytest.raises(TableError, match=f"{path.name} is damaged"):
            run()


@pytest.mark.parametrize("place", ["_plan", "_changes"])
def test_a_foreign_file_among_the_plans_is_an_error_that_names_it(
    table: Path, folder: Path, config: CaptionConfig, stub: Any, place: str
) -> None:
    (table / place).mkdir(exist_ok=True)
    pq.write_table(pa.table({"a": [1]}), table / place / "foreign.parquet")
    for run in (lambda: verify(table), lambda: caption(config, [folder], table, stub())):
        with pytest.raises(TableError, match=r"foreign\.parquet is no file of a caption table"):
            run()


@pytest.mark.parametrize("content", ["[" * 200_000, '{"rows":' + "9" * 5000 + "}"])
def test_json_that_python_does_not_read_is_a_damaged_file(
    table: Path, folder: Path, config: CaptionConfig, stub: Any, content: str
) -> None:
    receipt = table / "_receipts" / f"{part(table).stem.removeprefix('part-')}.json"
    for path, told in ((receipt, "has no receipt"), (table / "_report.json", "is damaged")):
        path.write_text(content)
        with pytest.raises(TableError, match=told):
            verify(table)
        caption(config, [folder], table, stub())
        assert verify(table).captioned == 10
    for path in (*(table / "_recipes").iterdir(), table / "_table.json"):
        path.write_text(content)
        with pytest.raises(TableError, match=r"is damaged|is not readable"):
            verify(table)


def test_a_part_that_is_a_link_to_nothing_is_missing(
    table: Path, folder: Path, config: CaptionConfig, stub: Any, parts: Parts
) -> None:
    before, path = parts(table), part(table)
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(TableError, match="is missing"):
        verify(table)
    caption(config, [folder], table, stub())
    assert parts(table) == before


def test_what_is_no_table_does_not_pass(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "missing", tmp_path / "empty"):
        with pytest.raises(TableError, match="is not a caption table"):
            verify(path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "x.csv").touch()
    with pytest.raises(TableError, match=r"is not a caption table: it holds x\.csv"):
        verify(tmp_path / "other")
