"""Where the pages of a Parquet file are and how much memory they claim, before any is taken.

Reads the footer and page headers alone (parquet-format, `parquet.thrift`: FileMetaData,
PageHeader), since a page of some kilobytes may unpack to gigabytes. pyarrow would tell of the
chunks too, but aborts the process over some damaged footers.
"""

from __future__ import annotations

from typing import NamedTuple

from pipeline.caption.files import ArchiveFile
from pipeline.caption.thrift import LIST, STRUCT, VARINT, Reader

MOST_UNPACKED = 256 << 20
"""Bytes a page may always unpack to; above, no more than MOST_RATIO times what lies in the file."""
MOST_RATIO = 8
_HEADER, _LONGEST_HEADER = 1 << 14, 1 << 20
_MOST_PAGES = 1_000_000
_LARGEST_FOOTER = 64 << 20
_DEEPEST, _MOST_COLUMNS = 64, 100_000


class Chunk(NamedTuple):
    """A column's bytes in one row group."""

    begin: int
    packed: int
    """Bytes in the file."""


class RowGroup(NamedTuple):
    """What the footer says of one."""

    rows: int
    chunks: dict[str, Chunk]
    """By the column's names, joined with dots."""


def read_footer(file: ArchiveFile) -> list[RowGroup]:
    """The row groups, by the footer alone.

    Raises:
        ValueError: no footer, or one that makes no sense.
    """
    end = file.at(file.size - 8, 8) if file.size >= 12 else b""
    size = int.from_bytes(end[:4], "little")
    if end[4:] != b"PAR1" or not 0 < size <= min(file.size - 12, _LARGEST_FOOTER):
        raise ValueError("no footer")
    reader = Reader(file.at(file.size - 8 - size, size))
    groups = []
    try:
        for number, kind in reader.fields():
            if (number, kind) == (2, LIST):
                _check_schema(reader)
            elif (number, kind) == (4, LIST):
                groups = [_row_group(reader) for _ in reader.items()]
            else:
                reader.skip(kind)
    except IndexError:
        raise ValueError("a damaged footer") from None
    return groups


def _check_schema(reader: Reader) -> None:
    """Refuse a schema that is nested so deep that a reader which calls itself would crash."""
    open_levels: list[int] = []
    for count, _ in enumerate(reader.items()):
        children = 0
        for number, kind in reader.fields():
            if number == 5 and kind in VARINT:
                children = max(reader.zigzag(), 0)
            else:
                reader.skip(kind)
        while open_levels and open_levels[-1] == 0:
            open_levels.pop()
        if open_levels:
            open_levels[-1] -= 1
        open_levels.append(children)
        if len(open_levels) > _DEEPEST or count > _MOST_COLUMNS:
            raise ValueError("a schema of too many columns, or nested too deep")


def _row_group(reader: Reader) -> RowGroup:
    rows, chunks = 0, {}
    for number, kind in reader.fields():
        if (number, kind) == (1, LIST):
            chunks = dict(_chunk(reader) for _ in reader.items())
        elif number == 3 and kind in VARINT:
            rows = max(reader.zigzag(), 0)
        else:
            reader.skip(kind)
    return RowGroup(rows, chunks)


def _chunk(reader: Reader) -> tuple[str, Chunk]:
    name, numbers = "", {7: -1, 9: -1, 11: 0}
    for number, kind in reader.fields():
        if (number, kind) != (3, STRUCT):
            reader.skip(kind)
            continue
        for inner, inner_kind in reader.fields():
            if inner in numbers and inner_kind in VARINT:
                numbers[inner] = reader.zigzag()
            elif (inner, inner_kind) == (3, LIST):
                name = ".".join(reader.binary().decode("utf-8", "replace") for _ in reader.items())
            else:
                reader.skip(inner_kind)
    begins = [at for at in (numbers[9], numbers[11]) if at > 0]
    return name, Chunk(min(begins, default=-1), numbers[7])


def sound(file: ArchiveFile, chunk: Chunk) -> bool:
    """Whether all pages of a column's chunk may be unpacked."""
    at, end = chunk.begin, chunk.begin + chunk.packed
    if not 0 < at <= end <= file.size:
        return False
    for _ in range(_MOST_PAGES):
        if at >= end:
            return True
        try:
            unpacked, packed, length = _page(file, at)
        except IndexError:
            return False
        if unpacked < 0 or packed < 0:
            return False
        if unpacked > MOST_UNPACKED and unpacked > MOST_RATIO * packed:
            return False
        at += length + packed
    return False


def _page(file: ArchiveFile, at: int) -> tuple[int, int, int]:
    """Bytes that a page unpacks to, its bytes in the file, and its header's."""
    try:
        return _header(file.at(at, _HEADER))
    except IndexError:
        return _header(file.at(at, _LONGEST_HEADER))


def _header(data: bytes) -> tuple[int, int, int]:
    reader = Reader(data)
    sizes = {2: -1, 3: -1}
    for number, kind in reader.fields():
        if number in sizes and kind in VARINT:
            sizes[number] = reader.zigzag()
        else:
            reader.skip(kind)
    return sizes[2], sizes[3], reader.at
