"""TIFF directories, in which TIFF files and EXIF blocks keep what they say (TIFF 6.0; BigTIFF)."""

from __future__ import annotations

import struct

from pipeline.errors import ImageError

# Sides, bits, orientation; sides of tiles; where strips or tiles are, and how long.
_TIFF_TAGS = frozenset({256, 257, 258, 273, 274, 279, 322, 323, 324, 325})
_MOST_VALUES = 1_000_000
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


def directory(data: bytes) -> dict[int, tuple[int, ...]]:
    """Tag -> values, of the integer tags that matter here, in the first directory.

    Raises:
        IndexError, struct.error, OverflowError: the data end inside it.
        ImageError: corrupt.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = struct.unpack_from(order + "H", data, 2)[0] == 43
    start = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0]
    head, entry, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    step = struct.calcsize(order + entry) + inline
    count = struct.unpack_from(order + head, data, start)[0]
    first = start + struct.calcsize(order + head)
    end = first + count * step
    if end > len(data):
        raise IndexError
    tags: dict[int, tuple[int, ...]] = {}
    for position in range(first, end, step):
        tag, kind, number = struct.unpack_from(order + entry, data, position)
        # As decoders do: of a tag that is there twice, the first counts.
        if tag not in _TIFF_TAGS or kind not in _TIFF_TYPES or tag in tags:
            continue
        if number > _MOST_VALUES:
            raise ImageError("corrupt", f"a TIFF tag with more than {_MOST_VALUES:,} values")
        values = f"{order}{number}{_TIFF_TYPES[kind]}"
        where = position + step - inline
        if struct.calcsize(values) > inline:
            where = struct.unpack_from(order + ("Q" if big else "I"), data, where)[0]
        tags[tag] = struct.unpack_from(values, data, where)
    return tags


def exif_orientation(blob: bytes) -> int:
    """The orientation in an EXIF block (a TIFF of its own), 1 where it is absent or damaged."""
    try:
        return valid_orientation(directory(blob).get(274, (1,)))
    except (IndexError, struct.error, OverflowError, ImageError):
        return 1


def valid_orientation(values: tuple[int, ...]) -> int:
    """A tag's value, or 1 if it is none of 1..8."""
    return values[0] if values and 1 <= values[0] <= 8 else 1
