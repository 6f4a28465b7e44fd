"""CSV: a line of column names, then rows of image, caption, optional split, further columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import AnnotationError
from pipeline.shard.grouping import group, text_entries
from pipeline.shard.row import Row, read_text


def read_csv(path: Path) -> Iterator[Row]:
    """The pictures of a CSV file whose first line names its columns.

    Raises:
        AnnotationError: the file is missing or malformed; names it and the line.
    """
    lines = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    rows = _csv_rows(path, lines)
    return group(path, text_entries(path, rows))


def _csv_rows(path: Path, lines: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        header: list[str] = next(lines, [])
        for column in ("image", "caption"):
            if column not in header:
                raise AnnotationError(
                    f"{path}, line 1: no column `{column}`; columns here: {', '.join(header)}"
                )
        if len(set(header)) != len(header):
            raise AnnotationError(f"{path}, line 1: a column is named twice: {', '.join(header)}")
        for fields in lines:
            if not fields:
                continue
            if len(fields) != len(header):
                raise AnnotationError(
                    f"{path}, line {lines.line_num}: {len(fields)} fields, but the first line "
                    f"names {len(header)} columns; quote fields that hold commas"
                )
            yield lines.line_num, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {lines.line_num}: not CSV: {error}") from None
