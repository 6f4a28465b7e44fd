"""A Parquet file as an archive: a row a picture, in a column of bytes or of paths."""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.caption.files import ArchiveFile, Files, too_many_bytes, why
from pipeline.caption.members import Archive, Member, Occurrences, skip_reason
from pipeline.caption.meta import META_BYTES, dump
from pipeline.caption.parquet_columns import Columns, as_json, find_columns, leaf
from pipeline.caption.parquet_pages import Chunk, read_footer, sound
from pipeline.errors import ArchiveError, ImageError

DAMAGE = (OSError, pa.ArrowException, ValueError, OverflowError, MemoryError)
LONGEST_NAME = 1 << 16
"""Bytes; a row with a longer one is called by its number."""
_BELIEVED, _BELIEVED_IN_ALL = 1_000_000, 10_000_000
"""Rows of a row group, and of the file, that are listed without a byte of data for each."""
_LISTED = 1024


class Parquet(Archive):
    """Rows in order. The other columns that JSON can hold are the picture's meta.

    A row's name is what its name column says, or `row-` and its number from 0. Row groups
    are read front to back, a row at a time, so that memory is a page's whatever they hold.
    """

    kind = "parquet"
    sequential = True

    def __init__(
        self, file: ArchiveFile, files: Files, image: str | None = None, name: str | None = None
    ) -> None:
        self.file, self.files = file, files
        with contextlib.ExitStack() as undo:
            try:
                self._footer = read_footer(file)
                self._handle = undo.enter_context(file.open())
                self._parquet = pq.ParquetFile(
                    self._handle,
                    buffer_size=1 << 20,
                    pre_buffer=False,
                    page_checksum_verification=True,
                )
                schema = self._parquet.schema_arrow
            except DAMAGE as error:
                raise ArchiveError(
                    f"{file.name} is not a Parquet file that can be read:"
                    f" {why(error, 'its end, which tells what it holds, is missing or damaged')};"
                    " it may be cut short: write it again"
                ) from None
            self.columns: Columns = find_columns(file.name, schema, image, name)
            undo.pop_all()
        self._groups = [0, *itertools.accumulate(group.rows for group in self._footer)]
        """The first row of each row group, and their end."""
        self._lock = threading.Lock()
        self._rows: Iterator[tuple[int, pa.RecordBatch]] | None = None
        self._now: tuple[int, pa.RecordBatch] | None = None
        self._believed = 0
        self._lost: dict[int, int] = {}
        """Row groups, and the first row of each that cannot be read."""

    def members(self) -> Iterator[Member]:
        """From the columns of names or paths alone; without one from the footer."""
        occurrences, self._believed = Occurrences(), 0
        named = self.columns.name or self.columns.path
        for group in range(len(self._groups) - 1):
            rows = range(self._groups[group], self._groups[group + 1])
            if not self._plausible(group, named):
                yield Member("", occurrences.next(""), code="damaged_archive")
                continue
            row = rows.start
            try:
                for values in self._names(group, named):
                    for value in values:
                        yield self._member(row, value, occurrences)
                        row += 1
            except DAMAGE:
                # The names are lost, the rows may not be.
                pass
            for unnamed in range(row, rows.stop):
                yield self._member(unnamed, None, occurrences)

    def _plausible(self, group: int, named: str | None) -> bool:
        """Whether a row group may hold what it claims: a claim costs nothing, a row some bytes."""
        wanted = {self.columns.picture or self.columns.path, named} - {None}
        rows = self._groups[group + 1] - self._groups[group]
        try:
            chunks = self._chunks(group, {str(name) for name in wanted})
            held = sum(chunk.packed for _, chunk in chunks)
            fits = all(sound(self.file, chunk) for name, chunk in chunks if name == named)
        except DAMAGE:
            return False
        if not fits or rows > max(_BELIEVED, held):
            return False
        self._believed += max(0, rows - held)
        return self._believed <= _BELIEVED_IN_ALL

    def _chunks(self, group: int, names: set[str]) -> list[tuple[str, Chunk]]:
        """The chunks of these columns, and of what lies below them, by their names."""
        return [
            (leaf_name, chunk)
            for leaf_name, chunk in self._footer[group].chunks.items()
            if any(leaf_name == name or leaf_name.startswith(name + ".") for name in names)
        ]

    def _names(self, group: int, named: str | None) -> Iterator[list[Any]]:
        if named is None:
            return
        left = self._groups[group + 1] - self._groups[group]
        for batch in self._parquet.iter_batches(
            _LISTED, row_groups=[group], columns=[named], use_threads=False
        ):
            # A cell that is no UTF-8 is for the row alone, not for all of them.
            values = [_text(cell) for cell in leaf(batch, named)]
            yield values[:left]
            left -= len(values)

    def _member(self, row: int, value: str | None, occurrences: Occurrences) -> Member:
        paths = self.columns.picture is None
        known = value if value and len(value.encode()) <= LONGEST_NAME else None
        name = known if known is not None else f"row-{row:09d}"
        occurrence = occurrences.next(name)
        if not paths:
            return Member(name, occurrence, 0, self.file.modified, row)
        if known is None:
            return Member(name, occurrence, offset=row, code="null_cell")
        reason = skip_reason(known.rpartition("/")[2])
        status = self.files.status(known.encode())
        reason = reason or status.reason
        return Member(name, occurrence, status.size, status.modified, row, reason=reason)

    def read(self, member: Member, most: int) -> bytes:
        """The picture in the member's row, or in the file that the row names."""
        if self.columns.picture is None:
            return self.files.read(member.name.encode(), most)
        with self._lock:
            batch = self._row(member.offset)
            try:
                cell = leaf(batch, self.columns.picture)[0]
                if cell.is_valid:
                    content = cell.as_buffer()
                    if content.size > most:
                        raise too_many_bytes(content.size, most)
                    return bytes(content.to_pybytes())
                path = _text(leaf(batch, self.columns.path)[0]) if self.columns.path else None
            except DAMAGE:
                raise ImageError("unreadable_member", "the row cannot be read") from None
        if path:
            return self.files.read(path.encode(), most)
        raise ImageError("null_cell", "the row holds no picture")

    def meta(self, member: Member) -> str | None:
        """The row's other columns as a JSON object."""
        if not self.columns.meta:
            return None
        with self._lock:
            try:
                batch = self._row(member.offset)
                found = {}
                for name in self.columns.meta:
                    column = batch.column(name)
                    if column.nbytes > META_BYTES:
                        found[name] = {"error": "too_many_bytes"}
                    else:
                        found[name] = _value(column)
            except (ImageError, *DAMAGE):
                return dump({"error": "unreadable_member"})
        text = dump(found)
        return text if len(text) <= META_BYTES else dump({"error": "too_many_bytes"})

    def _row(self, row: int) -> pa.RecordBatch:
        """The batch of one row. Going back reads a row group anew.

        Raises:
            ImageError: unreadable_member.
        """
        if self._now is not None and self._now[0] == row:
            return self._now[1]
        group = next((n for n in range(len(self._groups) - 1) if row < self._groups[n + 1]), None)
        if group is None or row >= self._lost.get(group, row + 1):
            raise ImageError("unreadable_member", "the Parquet file is damaged here")
        at = self._now[0] if self._now is not None else -1
        if self._rows is None or not self._groups[group] <= at < row:
            self._rows, at = self._read(group), self._groups[group] - 1
        self._now = None
        try:
            for at, batch in self._rows:
                if at == row:
                    self._now = (at, batch)
                    return batch
        except DAMAGE:
            pass
        self._rows = None
        self._lost[group] = max(at + 1, self._groups[group])
        raise ImageError("unreadable_member", "the Parquet file is damaged here")

    def _read(self, group: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        paths = (self.columns.picture, self.columns.path if self.columns.picture else None)
        names = [name for name in (*paths, *self.columns.meta) if name is not None]
        if not all(sound(self.file, chunk) for _, chunk in self._chunks(group, set(names))):
            raise MemoryError("a page of this row group unpacks to too much")
        batches = self._parquet.iter_batches(
            1, row_groups=[group], columns=names, use_threads=False
        )
        yield from enumerate(batches, self._groups[group])

    def close(self) -> None:
        """Close the file."""
        self._parquet.close()
        self._handle.close()
        self.file.close()


def is_parquet(file: ArchiveFile) -> bool:
    """Whether the file begins as a Parquet file does."""
    return file.head(4) == b"PAR1"


def _text(cell: pa.Scalar) -> str | None:
    if not cell.is_valid:
        return None
    try:
        return str(cell.as_py())
    except UnicodeDecodeError:
        return bytes(cell.as_buffer().to_pybytes()).decode("ascii", "backslashreplace")


def _value(column: pa.Array) -> Any:
    if pa.types.is_temporal(column.type):
        # As text: nanoseconds are more than Python's own moments hold.
        column = column.cast(pa.string())
    return as_json(column.to_pylist()[0])
