"""Pictures whose bytes stand in Parquet rows, read in the file's order, a few at a time.

A row group's column can only be read from its front, so pictures from everywhere in a file are
asked for together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.errors import DataError
from pipeline.shard.locate import Located
from pipeline.shard.row import Embedded

_BATCH = 8 << 20
"""Bytes of pictures in memory at once, about."""
_ROWS = 1024
"""Rows at once, at most."""


def by_file(pictures: Iterable[Located]) -> list[list[Located]]:
    """The embedded ones among `pictures`: a list a Parquet file, in the order of its rows."""
    files: dict[str, list[Located]] = {}
    for located in pictures:
        if located.picture.embedded is not None:
            files.setdefault(_at(located).file, []).append(located)
    return [sorted(files[name], key=lambda one: _at(one).row) for name in sorted(files)]


def read_embedded(pictures: list[Located]) -> Iterator[tuple[Located, bytes | None]]:
    """The bytes (None: the row has none) of pictures that `by_file` listed together.

    Raises:
        AnnotationError: the Parquet file is gone or damaged.
        DataError: it has changed since its captions were read.
    """
    import pyarrow.compute as pc

    from pipeline.shard.parquet_file import ParquetFile

    first = _at(pictures[0])
    wanted = {_at(located).row: located for located in pictures}
    with ParquetFile(Path(first.file)) as file:
        if file.stat != first.stat:
            raise DataError(f"{file.path} changed while it was read; run `captionmill shard` again")
        for group, rows in enumerate(file.groups):
            if not any(row in wanted for row in rows):
                continue
            fitting = int(_BATCH / max(1.0, file.bytes_a_row(group, first.column)))
            row = rows.start
            for batch in file.batches(group, [first.column], min(max(fitting, 1), _ROWS)):
                column = batch.column(0)
                if batch.schema.names[0] != first.column:  # the bytes of a struct
                    column = pc.struct_field(column, "bytes")
                for value in column:
                    if (located := wanted.get(row)) is not None:
                        yield located, value.as_py()
                    row += 1


def _at(located: Located) -> Embedded:
    assert located.picture.embedded is not None
    return located.picture.embedded
