"""What finished parts hold, for pictures that are copies of theirs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.caption.schema import Row
from pipeline.caption.table import Table, read_part
from pipeline.errors import TableError


class Parts:
    """`copies.Finished`, of the units that were done when a run began and those done since."""

    def __init__(self, table: Table, done: Collection[str], recipe: str) -> None:
        """Rows of another recipe than this do not count."""
        self.table, self.done, self.recipe = table, done, recipe

    def digests(self, unit: str) -> Sequence[str | None]:
        """The SHA-256 of each row; none of a part that is absent or damaged."""
        if unit not in self.done:
            return ()
        try:
            content = pa.BufferReader(self.table.part(unit).read_bytes())
            found = pq.ParquetFile(content).read(["sha256", "recipe"]).to_pydict()
        except (OSError, pa.ArrowException):
            return ()
        pairs = zip(found["sha256"], found["recipe"], strict=True)
        return [sha256 if recipe == self.recipe else None for sha256, recipe in pairs]

    def rows(self, unit: str) -> list[Row]:
        """All rows.

        Raises:
            TableError: the part is damaged.
        """
        path = self.table.part(unit)
        try:
            return [Row(**row) for row in read_part(path.read_bytes()).to_pylist()]
        except (OSError, TableError):
            raise TableError(
                f"{path}, of which other pictures are copies, cannot be read;"
                " delete it and run `captionmill caption` again"
            ) from None
