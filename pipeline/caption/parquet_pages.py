"""How much memory the pages of a Parquet file claim, before any of it is taken.

Reads page headers alone (parquet-format, `parquet.thrift`, struct PageHeader, in Thrift's
compact protocol), since a page of some kilobytes may unpack to gigabytes.
"""

from __future__ import annotations

from typing import Any

from pipeline.caption.files import ArchiveFile

MOST_UNPACKED = 256 << 20
"""Bytes a page may always unpack to; above, no more than MOST_RATIO times what lies in the file."""
MOST_RATIO = 8
_HEADER, _LONGEST_HEADER = 1 << 14, 1 << 20
_MOST_PAGES = 1_000_000


def sound(file: ArchiveFile, chunk: Any) -> bool:
    """Whether all pages of a column chunk (its pyarrow metadata) may be unpacked."""
    begins = [chunk.data_page_offset, chunk.dictionary_page_offset]
    at = min(begin for begin in begins if begin is not None and begin > 0)
    end = at + chunk.total_compressed_size
    if end > file.size:
        return False
    for _ in range(_MOST_PAGES):
        if at >= end:
            return True
        try:
            unpacked, packed, length = _page(file, at)
        except (IndexError, RecursionError):
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
    reader = _Thrift(data)
    sizes = {2: -1, 3: -1}
    number = 0
    while (kind := reader.byte()) != 0:
        number = number + (kind >> 4) if kind >> 4 else reader.zigzag()
        if number in sizes and kind & 15 == 5:
            sizes[number] = reader.zigzag()
        else:
            reader.skip(kind & 15)
    return sizes[2], sizes[3], reader.at


class _Thrift:
    """Values of the compact protocol; IndexError where the bytes end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def byte(self) -> int:
        value = self.data[self.at]
        self.at += 1
        return value

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
            if shift > 70:
                raise IndexError

    def zigzag(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def skip(self, kind: int) -> None:
        """Pass over a value of a kind; booleans of structs have no bytes."""
        if kind in (4, 5, 6):
            self.varint()
        elif kind in (3, 7, 8):
            size = {3: 1, 7: 8}.get(kind) or self.varint()
            self.at += size
        elif kind in (9, 10):
            head = self.byte()
            for _ in range(self.varint() if head >> 4 == 15 else head >> 4):
                self.skip_item(head & 15)
        elif kind == 12:
            while (field := self.byte()) != 0:
                if not field >> 4:
                    self.zigzag()
                self.skip(field & 15)
        elif kind not in (1, 2):
            raise IndexError

    def skip_item(self, kind: int) -> None:
        """Pass over an item of a list, where booleans have a byte."""
        if kind in (1, 2):
            self.byte()
        else:
            self.skip(kind)
