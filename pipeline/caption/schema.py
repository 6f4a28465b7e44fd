"""The rows of a caption table, and a part's bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 2

ROW_GROUP = 65_536
"""Most rows a row group: what a reader holds at a time."""

REPEATING = (
    *("source", "occurrence", "width", "height", "status", "error_code", "error"),
    *("model_name", "model_version", "recipe"),
)
"""Columns of few distinct values, written as a dictionary and indices."""

SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("member", pa.string(), nullable=False),
        pa.field("occurrence", pa.int32(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("caption", pa.string()),
        pa.field("score", pa.float32()),
        pa.field(
            "candidates", pa.list_(pa.struct([("caption", pa.string()), ("score", pa.float32())]))
        ),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error_code", pa.string()),
        pa.field("error", pa.string()),
        pa.field("model_name", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("recipe", pa.string()),
        pa.field("meta", pa.string()),
        pa.field("in_archive", pa.bool_(), nullable=False),
    ],
    metadata={"captionmill.schema_version": str(SCHEMA_VERSION)},
)


@dataclass(frozen=True, slots=True)
class Row:
    """One row; the fields are the schema's columns."""

    source: str
    member: str
    occurrence: int
    sha256: str | None
    bytes: int | None
    width: int | None
    """Pixels, after EXIF orientation."""
    height: int | None
    caption: str | None
    score: float | None
    """Mean token log-probability, natural logarithm."""
    candidates: list[dict[str, str | float]] | None
    """Best first; the first is the caption itself."""
    status: str
    """captioned, failed or skipped."""
    error_code: str | None
    """Why it failed, or was skipped."""
    error: str | None
    model_name: str
    model_version: str
    recipe: str
    meta: str | None
    """JSON text that the input brought along."""
    in_archive: bool = True
    """Whether the archive still held it when it was last listed."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What the row is found by."""
        return (self.source, self.member, self.occurrence)


COLUMNS = tuple(SCHEMA.names)


def prepare_arrow() -> None:
    """Let Arrow make its first array now: it imports pandas for that, where there is one.

    That takes half a second, which a run has while its workers start.
    """
    pa.array([""])


def part_table(rows: Sequence[Row]) -> pa.Table:
    """The rows in columns."""
    columns = [
        pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def part_rows(part: pa.Table) -> list[Row]:
    """The inverse of `part_table`."""
    return [Row(**row) for row in part.to_pylist()]


def part_bytes(part: pa.Table) -> bytes:
    """A Parquet file with a check sum on every page; the same rows give the same bytes."""
    file = io.BytesIO()
    # Pages end where chunks end, so the bytes would tell how the rows came together.
    pq.write_table(
        part.combine_chunks(),
        file,
        compression="zstd",
        use_dictionary=list(REPEATING),
        write_page_checksum=True,
        row_group_size=ROW_GROUP,
    )
    return file.getvalue()
