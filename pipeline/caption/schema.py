"""The rows of a caption table, and a part's bytes: the same rows give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 1

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


COLUMNS = tuple(SCHEMA.names)


def part_bytes(rows: Sequence[Row]) -> bytes:
    """A Parquet file of one row group, with a check sum on every page."""
    columns = [
        pa.array([getattr(row, field.name) for row in rows], type=field.type) for field in SCHEMA
    ]
    file = io.BytesIO()
    pq.write_table(
        pa.Table.from_arrays(columns, schema=SCHEMA),
        file,
        compression="zstd",
        write_page_checksum=True,
        row_group_size=max(len(rows), 1),
    )
    return file.getvalue()
