"""Parquet: captions and what else is said of pictures, which are paths or bytes in the rows.

Reads every column but the pictures' bytes; those are `embedded.py`'s.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config_sources import ParquetColumns
from pipeline.errors import AnnotationError
from pipeline.progress import say
from pipeline.shard.grouping import Entry, group
from pipeline.shard.parquet_columns import Columns
from pipeline.shard.parquet_file import ParquetFile, find_files
from pipeline.shard.row import Embedded, Row

_ROWS = 1024
"""Rows in memory at once, without their pictures."""


def read_parquet(path: Path, settings: ParquetColumns) -> Iterator[Row]:
    """The pictures of a Parquet file, of a folder of them, or of those that a pattern names.

    A row is a picture with its captions, or one caption of a picture; rows of one path, or of
    one id, are one picture. A picture in the row itself has the file name FILE#ROW, FILE as
    seen from the folder, rows counted from 0.

    Raises:
        AnnotationError: a file is missing, damaged or lacks a column, or a value cannot be what
            it should; names the file and the row.
    """
    base, files = find_files(path)
    return group(path, _entries(base, files, settings))


def _entries(base: Path, files: list[Path], settings: ParquetColumns) -> Iterator[Entry]:
    left_out: dict[str, None] = {}
    for path in files:
        with ParquetFile(path) as file:
            columns = Columns(path, file.schema, settings)
            left_out |= dict.fromkeys(columns.left_out)
            name = path.relative_to(base).as_posix()
            yield from _file_entries(file, columns, name, f"{name}, " if len(files) > 1 else "")
    if left_out:
        say("shard", f"columns that JSON cannot hold, left out: {', '.join(left_out)}")


def _file_entries(file: ParquetFile, columns: Columns, name: str, where: str) -> Iterator[Entry]:
    for number, rows in enumerate(file.groups):
        # In a row group all pictures are bytes or none is: a row without is then a bad picture.
        embedded = columns.bytes
        if embedded is not None and columns.paths and file.all_null(number, embedded):
            embedded = None
        row = rows.start
        for batch in file.batches(number, columns.described(), _ROWS):
            for values in _values(file, columns, batch, row):
                place = f"{where}row {row}"
                if columns.id is not None and values.id is None:
                    raise AnnotationError(f"{file.path}, row {row}: `{columns.id}` is empty")
                if embedded is None:
                    yield values._replace(place=place)
                else:
                    meta = {"path": values.image, **values.meta} if values.image else values.meta
                    at = Embedded(str(file.path), embedded, row, file.stat)
                    yield values._replace(
                        place=place, image=f"{name}#{row}", meta=meta, embedded=at
                    )
                row += 1


def _values(
    file: ParquetFile, columns: Columns, batch: pa.RecordBatch, first: int
) -> Iterator[Entry]:
    """The rows as entries whose place is still to be said."""
    count = batch.num_rows
    nothing: list[Any] = [None] * count

    def values(name: str | None) -> list[Any]:
        if name is None:
            return nothing
        array = batch.column(name)
        if name == columns.image and pa.types.is_struct(array.type):
            array = pc.struct_field(array, "path")
        kind = columns.meta.get(name)
        return _python(file.path, name, array, kind, first)

    images = values(columns.image if columns.paths else None)
    splits, ids = values(columns.split), values(columns.id)
    captions = [values(name) for name in columns.captions]
    meta = {name: [_json(value) for value in values(name)] for name in columns.meta}
    for n in range(count):
        texts: list[str] = []
        for column in captions:
            found = column[n]
            some = found if isinstance(found, list) else [found]
            texts += [text if text is not None else "" for text in some]
        yield Entry(
            "",
            images[n] or "",
            texts,
            splits[n],
            {name: column[n] for name, column in meta.items()},
            ids[n],
        )


def _python(
    path: Path, name: str, array: pa.Array, kind: pa.DataType | None, first: int
) -> list[Any]:
    try:
        if kind is not None and array.type != kind:
            array = array.cast(kind)
        found: list[Any] = array.to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        what = "a text is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise AnnotationError(
            f"{path}, rows {first} to {first + len(array) - 1}: column `{name}`: {what}"
        ) from None
    return found


def _json(value: Any) -> Any:
    """NaN and the infinities, which are pandas' missing values or no numbers, become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, dict):
        return {key: _json(item) for key, item in value.items()}
    return value
