"""`export`: a table's rows as CSV or JSON lines, in the order of the plan, a part at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from pipeline.caption.schema import COLUMNS
from pipeline.caption.table import Table
from pipeline.errors import ConfigError
from pipeline.remote import Location

JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def export(
    directory: Location,
    file: IO[bytes],
    to: Literal["csv", "jsonl"],
    columns: Sequence[str] | None = None,
) -> tuple[int, int]:
    """Write every row to `file` as UTF-8; (rows written, planned pictures without a row).

    CSV begins with a line of names. Every text is in quotes, so that commas, quotes and line
    ends in it are data; null is an empty field without quotes; `candidates` is JSON. In JSON
    lines `candidates` is a list and `meta` a value; a score that is no number is null, and
    half a surrogate pair in an input's `meta` is U+FFFD.

    Raises:
        TableError: not a caption table, or a part is damaged.
        ConfigError: no such column.
    """
    table = Table(directory)
    table.require()
    chosen = list(columns) if columns is not None else list(COLUMNS)
    if unknown := [name for name in chosen if name not in COLUMNS]:
        raise ConfigError(
            f"no column {', '.join(map(repr, unknown))} in a caption table;"
            f" its columns: {', '.join(COLUMNS)}"
        )
    write: Callable[[pa.Table, IO[bytes]], None] = {"csv": _write_csv, "jsonl": _write_lines}[to]
    if to == "csv":
        file.write((",".join(f'"{name}"' for name in chosen) + "\n").encode())
    written = missing = 0
    for unit, _, rows in table.unit_rows():
        if not table.part(unit).exists():
            missing += rows
            continue
        part = table.read(unit).select(chosen)
        write(part, file)
        written += part.num_rows
    return written, missing


def _write_csv(part: pa.Table, file: IO[bytes]) -> None:
    if "candidates" in part.column_names:
        place = part.column_names.index("candidates")
        texts = [
            None if c is None else JSON.encode(_candidates(c)) for c in part[place].to_pylist()
        ]
        part = part.set_column(place, "candidates", pa.array(texts, pa.string()))
    options = csv.WriteOptions(include_header=False, quoting_style="needed")
    csv.write_csv(part, file, options)


def _write_lines(part: pa.Table, file: IO[bytes]) -> None:
    if "score" in part.column_names:
        place = part.column_names.index("score")
        # The shortest decimals that are this float32, not those of its double.
        short = pc.cast(pc.cast(part[place], pa.string()), pa.float64())
        part = part.set_column(place, "score", short)
    for row in part.to_pylist():
        if row.get("candidates") is not None:
            row["candidates"] = _candidates(row["candidates"])
        if row.get("meta") is not None:
            row["meta"] = _value(row["meta"])
        if row.get("score") is not None and not math.isfinite(row["score"]):
            row["score"] = None
        file.write(_line(row))


def _value(meta: str) -> Any:
    try:
        return json.loads(meta, parse_constant=lambda _: None, parse_float=_finite)
    except (ValueError, RecursionError):
        return meta


def _finite(number: str) -> float | None:
    # 1e999 is a number in JSON, but none that a float64 holds.
    value = float(number)
    return value if math.isfinite(value) else None


def _candidates(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"caption": c["caption"], "score": _short(c["score"])} for c in found]


def _short(score: float | None) -> float | None:
    if score is None or not math.isfinite(score):
        return None
    import numpy as np

    return float(str(np.float32(score)))


def _line(row: dict[str, Any]) -> bytes:
    text = JSON.encode(row) + "\n"
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Half a surrogate pair, of an input's JSON: no character, and readers refuse it.
        whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole.encode()
