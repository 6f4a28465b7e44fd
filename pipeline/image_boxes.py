"""HEIC and AVIF headers: size, orientation and coding from the boxes of ISO/IEC 23008-12 (HEIF).

Like `image_headers`, it decodes nothing; the boxes are those of ISO/IEC 14496-12. A picture's
orientation is that of its `irot` and `imir` properties alone: the standard has readers ignore EXIF's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.errors import ImageError

_BRANDS = {
    *(b"avif", b"avis", b"mif1", b"msf1", b"mif2", b"miaf", b"heic", b"heix", b"hevc", b"hevx"),
    *(b"heim", b"heis", b"hevm", b"hevs"),
}
_MOST_BOXES = 20_000
_MOST_ITEMS = 100_000
# (quarter turns anticlockwise, mirror axis: none, upside down, left to right) -> EXIF's number.
_ORIENTATIONS: dict[tuple[int, int | None], int] = {
    **{(0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6},
    **{(0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7},
    **{(0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5},
}


class Boxes(NamedTuple):
    """What the boxes say of the primary picture."""

    coding: bytes
    """hvc1, av01, jpeg, ...: of its tiles, if it has some."""
    width: int
    """As stored, before orientation and cropping."""
    height: int
    crop: tuple[int, int] | None
    """Sides of the clean aperture."""
    orientation: int
    """1..8, as EXIF numbers them."""
    bits: int
    complete: bool
    """Whether the file reaches the end of what its boxes claim."""


class _Box(NamedTuple):
    kind: bytes
    content: bytes
    whole: bool


def is_heif(data: bytes) -> bool:
    """Whether a file says that it is of this family."""
    if data[4:8] != b"ftyp" or len(data) < 16:
        return False
    size = max(16, min(int.from_bytes(data[:4], "big"), 1024))
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, size, 4))}
    # Canon's raw files list one of these brands too.
    return not data.startswith(b"crx ", 8) and bool(brands & _BRANDS)


def read_boxes(data: bytes) -> Boxes:
    """The primary picture of a HEIF file.

    Raises:
        ImageError: corrupt.
        IndexError: the file ends before its description does.
    """
    complete, meta, movie = True, None, None
    for box in _boxes(data):
        complete &= box.whole
        if box.kind == b"meta" and meta is None:
            meta = box
        elif box.kind == b"moov" and movie is None:
            movie = box
    described = movie if data[8:12] == b"avis" and movie is not None else meta
    if described is None or not described.whole:
        if complete:
            raise ImageError("corrupt", "a HEIF file that describes no picture")
        raise IndexError
    try:
        if described is movie:
            width, height = _track(movie.content)
            return Boxes(b"av01", width, height, None, 1, 8, complete)
        return _primary(described.content[4:], len(data), complete)
    except (IndexError, struct.error):
        raise ImageError("corrupt", "a HEIF file whose boxes contradict themselves") from None


def _boxes(data: bytes, at: int = 0) -> Iterator[_Box]:
    """The boxes side by side in `data`; the last one may be cut."""
    for _ in range(_MOST_BOXES):
        if at + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            if at + 16 > len(data):
                return
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        elif size == 0:
            size = len(data) - at
        if size < head:
            raise ImageError("corrupt", "a HEIF file with a box of no size")
        # The pixels' box is not copied.
        content = b"" if kind == b"mdat" else data[at + head : at + size]
        yield _Box(kind, content, at + size <= len(data))
        at += size
    raise ImageError("corrupt", f"a HEIF file of more than {_MOST_BOXES:,} boxes")


def _child(data: bytes, kind: bytes) -> bytes:
    for box in _boxes(data):
        if box.kind == kind:
            return box.content
    raise IndexError


def _primary(meta: bytes, length: int, complete: bool) -> Boxes:
    found: dict[bytes, bytes] = {}
    for box in _boxes(meta):
        found.setdefault(box.kind, box.content)
    pitm = found.get(b"pitm", b"")
    primary = struct.unpack_from(">H" if pitm[:1] == b"\0" else ">I", pitm, 4)[0]
    kinds = _items(found.get(b"iinf", b""))
    tile = primary
    for _ in range(4):
        if kinds.get(tile) not in (b"grid", b"iden", b"iovl", b"tmap"):
            break
        tile = _derived_from(found.get(b"iref", b""), tile)
    complete = complete and _extent(found.get(b"iloc", b"")) <= length
    properties = found.get(b"iprp", b"")
    values = list(_boxes(_child(properties, b"ipco")))
    width = height = 0
    crop, bits, turns, mirror = None, 8, 0, None
    for index in _associated(_child(properties, b"ipma"), primary):
        box = values[index - 1]
        if box.kind == b"ispe":
            width, height = struct.unpack_from(">II", box.content, 4)
        elif box.kind == b"pixi":
            bits = box.content[5]
        elif box.kind == b"irot":
            turns = box.content[0] & 3
        elif box.kind == b"imir":
            mirror = box.content[0] & 1
        elif box.kind == b"clap":
            crop = _aperture(box.content, width, height)
    orientation = _ORIENTATIONS[turns, mirror]
    return Boxes(kinds.get(tile, b""), width, height, crop, orientation, bits, complete)


def _items(iinf: bytes) -> dict[int, bytes]:
    """Item -> type."""
    kinds: dict[int, bytes] = {}
    for box in _boxes(iinf, 6 if iinf[0] == 0 else 8):
        version = box.content[0]
        if box.kind == b"infe" and version in (2, 3):
            wide = version == 3
            number = struct.unpack_from(">I" if wide else ">H", box.content, 4)[0]
            kinds.setdefault(number, box.content[10 if wide else 8 :][:4])
    return kinds


def _derived_from(iref: bytes, item: int) -> int:
    """The first item that a derived one is made of."""
    number = ">I" if iref[0] else ">H"
    step = struct.calcsize(number)
    for box in _boxes(iref, 4):
        if box.kind == b"dimg" and struct.unpack_from(number, box.content)[0] == item:
            return int(struct.unpack_from(number, box.content, step + 2)[0])
    raise IndexError


def _associated(ipma: bytes, item: int) -> list[int]:
    """Numbers of an item's properties, from 1, in order."""
    version, wide = ipma[0], ipma[3] & 1
    count = struct.unpack_from(">I", ipma, 4)[0]
    at = 8
    for _ in range(min(count, _MOST_ITEMS)):
        number = struct.unpack_from(">I" if version else ">H", ipma, at)[0]
        at += 4 if version else 2
        many = ipma[at]
        at += 1
        if number == item:
            kind, mask = (f">{many}H", 0x7FFF) if wide else (f">{many}B", 0x7F)
            return [n & mask for n in struct.unpack_from(kind, ipma, at) if n & mask]
        at += many * (2 if wide else 1)
    raise IndexError


def _aperture(clap: bytes, width: int, height: int) -> tuple[int, int] | None:
    across, across_by, down, down_by = struct.unpack_from(">IIII", clap)
    if not across_by or not down_by:
        return None
    sides = across // across_by, down // down_by
    return sides if 0 < sides[0] <= width and 0 < sides[1] <= height else None


def _extent(iloc: bytes) -> int:
    """Where the last byte of all items' data lies in the file."""
    version, sizes, more = iloc[0], iloc[4], iloc[5]
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, more >> 4
    index_size = more & 15 if version else 0
    wide = version == 2
    count = int.from_bytes(iloc[6 : 10 if wide else 8], "big")
    at, last = (10 if wide else 8), 0
    for _ in range(min(count, _MOST_ITEMS)):
        at += 4 if wide else 2
        method = iloc[at + 1] & 15 if version else 0
        at += (2 if version else 0) + 2
        base = int.from_bytes(iloc[at : at + base_size], "big")
        at += base_size
        extents = struct.unpack_from(">H", iloc, at)[0]
        at += 2
        step = index_size + offset_size + length_size
        # An extent without offset and length is the whole file.
        for _ in range(extents if step else 0):
            at += index_size
            offset = int.from_bytes(iloc[at : at + offset_size], "big")
            length = int.from_bytes(iloc[at + offset_size : at + offset_size + length_size], "big")
            at += offset_size + length_size
            if method == 0:
                last = max(last, base + offset + length)
            if at > len(iloc):
                raise IndexError
    return last


def _track(moov: bytes) -> tuple[int, int]:
    """Sides of the first track, from its header; fixed point of 16 bits."""
    header = _child(_child(moov, b"trak"), b"tkhd")
    width, height = struct.unpack_from(">II", header, len(header) - 8)
    return width >> 16, height >> 16
