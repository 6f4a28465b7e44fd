"""`export`: every row as CSV or JSON lines that any reader takes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest

from pipeline.caption import caption, export
from pipeline.caption.schema import COLUMNS, Row, part_table
from pipeline.caption.table import Table
from pipeline.config import CaptionConfig
from pipeline.errors import ConfigError, TableError

Rows = Callable[[Path], list[dict[str, Any]]]

HARD = 'a "quoted", comma\r\nline\nend ¿ 図 \U0001f600 =1+1'


@pytest.fixture
def table(folder: Path, tmp_path: Path, stub: Any) -> Path:
    (folder / "bad.jpg").write_bytes(b"no picture")
    config = CaptionConfig(unit_size=4, batch_size=3, candidates=2)
    caption(config, [folder], tmp_path / "t", stub())
    return tmp_path / "t"


def harden(table: Path, **values: Any) -> None:
    """Give the first row of the first part values that no captioner makes."""
    unit = next(iter(Table(table).units()))
    rows = [Row(**row) for row in Table(table).read(unit.id).to_pylist()]
    rows[0] = Row(**{name: getattr(rows[0], name) for name in COLUMNS} | values)
    Table(table).write(unit.id, part_table(rows))


def written(table: Path, to: Any, columns: list[str] | None = None) -> bytes:
    file = io.BytesIO()
    export(table, file, to, columns)
    return file.getvalue()


def test_csv_gives_back_every_value_whatever_is_in_it(
    table: Path, tmp_path: Path, rows: Rows
) -> None:
    harden(table, caption=HARD, meta='{"a":"x\\ud800"}', score=float("nan"))
    content = written(table, "csv")
    found = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    expected = rows(table)
    assert list(found[0]) == list(COLUMNS)
    assert len(found) == len(expected) == 11
    for text, row in zip(found, expected, strict=True):
        for name in ("source", "member", "sha256", "status", "model_version", "recipe"):
            assert text[name] == (row[name] or "")
        assert text["caption"] == (row["caption"] or "")
        assert text["in_archive"] == "true"
        assert text["bytes"] == str(row["bytes"])
    assert found[0]["caption"] == HARD
    assert found[0]["meta"] == '{"a":"x\\ud800"}'
    best = json.loads(found[1]["candidates"])
    assert best[0]["caption"] == found[1]["caption"]
    assert float(found[1]["score"]) == best[0]["score"]
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    for captions in (
        pd.read_csv(path)["caption"].fillna("").tolist(),
        pl.read_csv(path)["caption"].fill_null("").to_list(),
        [c or "" for (c,) in duckdb.connect().execute(f"SELECT caption FROM '{path}'").fetchall()],
    ):
        assert [c.replace("\r\n", "\n") for c in captions] == [
            (row["caption"] or "").replace("\r\n", "\n") for row in expected
        ]


def test_json_lines_hold_candidates_as_lists_and_meta_as_a_value(
    table: Path, tmp_path: Path, rows: Rows
) -> None:
    meta = '{"a":"x\\ud800",\n"b":[1.50,1e999,NaN]}'
    harden(table, caption=HARD, meta=meta, score=float("inf"))
    content = written(table, "jsonl")
    found = [json.loads(line) for line in content.decode().splitlines()]
    expected = rows(table)
    assert [list(row) for row in found] == [list(COLUMNS)] * 11
    assert found[0]["caption"] == HARD
    assert found[0]["meta"] == {"a": "x\ufffd", "b": [1.5, None, None]}
    assert found[0]["score"] is None
    assert found[1]["score"] == pytest.approx(expected[1]["score"])
    assert len(str(found[1]["score"])) < 13
    assert [c["caption"] for c in found[1]["candidates"]] == [expected[1]["caption"]] * 2
    assert found[1]["in_archive"] is True
    assert {row["caption"] for row in found if row["status"] == "failed"} == {None}
    for name in ("source", "member", "bytes", "status", "error_code", "recipe"):
        assert [row[name] for row in found] == [row[name] for row in expected]
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    count = duckdb.connect().execute(f"SELECT count(*) FROM read_json_auto('{path}')").fetchone()
    assert count == (11,)


def test_columns_are_chosen_and_ordered_and_unknown_ones_refused(table: Path) -> None:
    lines = written(table, "csv", ["caption", "member"]).decode().splitlines()
    assert lines[0] == '"caption","member"'
    assert lines[1].startswith('"a picture of red ')
    first = json.loads(written(table, "jsonl", ["score", "member"]).splitlines()[0])
    assert list(first) == ["score", "member"]
    with pytest.raises(ConfigError, match="no column 'captions' in a caption table; its columns: "):
        written(table, "csv", ["captions"])


def test_an_unfinished_table_is_exported_as_far_as_it_is(table: Path, tmp_path: Path) -> None:
    sorted(table.glob("part-*"))[0].unlink()
    file = io.BytesIO()
    assert export(table, file, "jsonl") == (7, 4)
    assert len(file.getvalue().splitlines()) == 7
    with pytest.raises(TableError, match="is not a caption table"):
        export(tmp_path / "nothing", io.BytesIO(), "csv")
