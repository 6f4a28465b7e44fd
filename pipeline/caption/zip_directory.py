"""The directory of a zip: a stream of its entries, in memory that does not grow with them.

Follows PKWARE's APPNOTE.TXT 6.3.10, ZIP64 included. Written here because the standard
library holds every entry as an object, and gives up at the first damaged one.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from pipeline.caption.files import ArchiveFile

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_UTF8 = 0x800
_LONGEST_COMMENT = 1 << 16
_WINDOW = 1 << 20
_MOST_ENTRY = _ENTRY.size + 3 * 65_535


class ZipDamageError(Exception):
    """What is wrong with the zip, in our own words."""


class Entry(NamedTuple):
    """A member as the directory describes it; all of it is a claim."""

    name: bytes
    flags: int
    method: int
    checksum: int
    """CRC-32 of the content."""
    packed: int
    """Bytes in the zip."""
    size: int
    """Bytes of the content."""
    local: int
    """Where its local header begins in the file."""
    moment: tuple[int, int]
    """MS-DOS date and time."""
    system: int
    attributes: int
    place: int
    """Where this entry begins in the file."""

    @property
    def directory(self) -> bool:
        """Whether the attributes of MS-DOS call it one; most programs end its name with a slash."""
        return self.system == 0 and bool(self.attributes & 0x10) and self.size == 0

    @property
    def utf8(self) -> bool:
        """Whether the name is known to be UTF-8."""
        return bool(self.flags & _UTF8)

    @property
    def modified(self) -> int:
        """Nanoseconds since 1970; below the second, where a zip knows nothing, its check sum."""
        date, time = self.moment
        try:
            moment = datetime(
                *((date >> 9) + 1980, date >> 5 & 15, date & 31),
                *(time >> 11, time >> 5 & 63, (time & 31) * 2),
                tzinfo=UTC,
            )
        except ValueError:
            return self.checksum % 10**9
        return int(moment.timestamp()) * 10**9 + self.checksum % 10**9


class Directory:
    """The directory of one zip.

    Raises:
        ZipDamageError: there is none, or it lies in another file.
        OSError: the storage cannot give it.
    """

    def __init__(self, file: ArchiveFile) -> None:
        self._file = file
        self.start, self.end, self._shift = _find(file)

    def entries(self) -> Iterator[Entry | None]:
        """Entries in order; None is a damaged one, behind which nothing can be found."""
        position = self.start
        window, begin = b"", position
        while position < self.end:
            if position + _MOST_ENTRY > begin + len(window) < self.end:
                window, begin = self._file.at(position, min(_WINDOW, self.end - position)), position
            entry, size = self._parse(window, position - begin, position)
            if entry is None:
                yield None
                return
            yield entry
            position += size

    def entry(self, place: int) -> Entry | None:
        """The entry that begins at `place`; None if there is none."""
        if not self.start <= place < self.end:
            return None
        return self._parse(self._file.at(place, min(_MOST_ENTRY, self.end - place)), 0, place)[0]

    def _parse(self, window: bytes, at: int, place: int) -> tuple[Entry | None, int]:
        try:
            found = _ENTRY.unpack_from(window, at)
        except struct.error:
            return None, 0
        magic, version, _, flags, method, time, date, checksum, packed, size = found[:10]
        named, extended, commented, _, _, attributes, local = found[10:]
        begin = at + _ENTRY.size
        name = window[begin : begin + named]
        extra = window[begin + named : begin + named + extended]
        if magic != b"PK\1\2" or len(extra) < extended or len(name) < named:
            return None, 0
        wide, path = _field(extra, 0x0001), _field(extra, 0x7075)
        if wide is not None:
            size, packed, local = _wide(wide, size, packed, local)
        # The name in UTF-8, if it belongs to the name that stands above.
        if path is not None and path[:5] == b"\1" + struct.pack("<L", zlib.crc32(name)):
            name, flags = path[5:], flags | _UTF8
        entry = Entry(
            *(name, flags, method, checksum, packed, size, local + self._shift, (date, time)),
            *(version >> 8, attributes, place),
        )
        return entry, _ENTRY.size + named + extended + commented

    def data(self, entry: Entry) -> int | None:
        """Where a member's packed bytes begin; None if its local header is not its own."""
        if entry.local >= self.start:
            return None
        head = self._file.at(entry.local, _LOCAL.size + len(entry.name))
        if len(head) < _LOCAL.size:
            return None
        magic, *_, named, extended = _LOCAL.unpack_from(head)
        begin = entry.local + _LOCAL.size + named + extended
        own = magic == b"PK\3\4" and (
            entry.utf8 or head[_LOCAL.size : _LOCAL.size + named] == entry.name
        )
        return begin if own and begin + entry.packed <= self.start else None

    def overlaps(self) -> Overlaps:
        """Which members share bytes; 8 bytes of memory a member while it is asked."""
        begins = array(
            "Q", (e.local for e in self.entries() if e is not None and e.local < 1 << 63)
        )
        ordered = np.sort(np.frombuffer(begins, dtype=np.uint64)) if begins else begins
        return Overlaps(array("Q", ordered.tobytes()) if begins else begins)


class Overlaps:
    """Asks of a member whether its bytes reach into another's, as in a bomb."""

    def __init__(self, begins: array[int]) -> None:
        self._begins = begins

    def has(self, entry: Entry) -> bool:
        """Whether another member begins where this one does, or before it ends."""
        following = bisect_right(self._begins, entry.local)
        if following > 1 and self._begins[following - 2] == entry.local:
            return True
        end = entry.local + _LOCAL.size + entry.packed
        return following < len(self._begins) and self._begins[following] < end


def _find(file: ArchiveFile) -> tuple[int, int, int]:
    """Where the directory begins and ends, and what was put before the zip, in bytes."""
    start = max(0, file.size - _END.size - _LONGEST_COMMENT)
    tail = file.at(start, file.size - start)
    at = len(tail)
    while (at := tail.rfind(b"PK\5\6", 0, at)) >= 0:
        if len(tail) - at < _END.size:
            continue
        _, disk, _, _, _, size, offset, comment = _END.unpack_from(tail, at)
        if at + _END.size + comment <= len(tail):
            break
    else:
        raise ZipDamageError("its directory, at the end, is missing: the file was cut short")
    end = start + at
    if end >= _LOCATOR.size:
        magic, _, wide, disks = _LOCATOR.unpack(file.at(end - _LOCATOR.size, _LOCATOR.size))
        if magic == b"PK\6\7":
            disk, size, offset, end = _wide_end(file, end - _LOCATOR.size, wide)
            disk = max(disk, disks - 1)
    if disk not in (0, 0xFFFF):
        raise ZipDamageError("it is one volume of several; join them first (`zip -s 0`)")
    shift = end - size - offset
    if shift < 0:
        raise ZipDamageError("its directory claims to be larger than the file")
    return end - size, end, shift


def _wide_end(file: ArchiveFile, locator: int, offset: int) -> tuple[int, int, int, int]:
    """Disk, size and offset of a ZIP64 directory, and where it ends."""
    # Where something was put before the zip, the offset is of the zip's own beginning.
    for at in (offset, locator - _END64.size):
        record = file.at(at, _END64.size) if 0 <= at < locator else b""
        if len(record) == _END64.size and record.startswith(b"PK\6\6"):
            _, _, _, _, disk, _, _, _, size, begin = _END64.unpack(record)
            return disk, size, begin, at
    raise ZipDamageError("its ZIP64 directory is missing")


def _field(extra: bytes, tag: int) -> bytes | None:
    """The value of one field of an entry's extra bytes."""
    at = 0
    while at + 4 <= len(extra):
        found, size = struct.unpack_from("<2H", extra, at)
        if found == tag:
            return extra[at + 4 : at + 4 + size]
        at += 4 + size
    return None


def _wide(value: bytes, size: int, packed: int, local: int) -> tuple[int, int, int]:
    """Numbers of more than 32 bits, each present only where the entry has no room for it."""
    numbers = iter(struct.unpack(f"<{len(value) // 8}Q", value[: len(value) // 8 * 8]))
    size, packed, local = (
        next(numbers, told) if told == 0xFFFFFFFF else told for told in (size, packed, local)
    )
    return size, packed, local
