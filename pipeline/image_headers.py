"""What a picture file says of itself: format, size, orientation, end marker. Decodes nothing.

Each parser walks its format's structure in place, so that a claimed size is known before
any memory is taken for it, and a file that was cut short is known without decoding it.
Parsers let IndexError, struct.error and OverflowError (a place beyond all memory) pass: they mean
that the file ends too early.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

from pipeline.errors import ImageError
from pipeline.image_boxes import is_heif, read_boxes
from pipeline.image_exif import directory, exif_orientation, valid_orientation
from pipeline.image_others import other_format


class Header(NamedTuple):
    """What a file's structure says; `width` and `height` are as stored, before orientation."""

    width: int
    height: int
    complete: bool
    """Whether the file reaches its end marker, or the size that it claims."""
    orientation: int = 1
    """EXIF orientation 1..8, of which 5..8 swap the sides."""
    bits: int = 8
    """Bits a sample."""


Parser = Callable[[bytes], Header]


def identify(data: bytes) -> tuple[str, Parser]:
    """The format's name (jpeg, png, webp, gif, bmp, tiff, avif, heic) and the parser of its header.

    Raises:
        ImageError: truncated (inside the signature), unsupported_format or not_an_image.
    """
    for name, parser in _PARSERS.items():
        if _SIGNATURES[name](data):
            return name, parser
    if len(data) > 1 and any(
        whole.startswith(data) for whole in (b"\xff\xd8\xff", _PNG, b"GIF89a")
    ):
        raise ImageError(
            "truncated", f"the file ends after {len(data)} bytes, inside its signature"
        )
    if is_heif(data):
        return _heif_name(data), heif
    other = other_format(data)
    if other is not None:
        raise ImageError(
            "unsupported_format",
            f"{other} is not read; JPEG, PNG, WebP, GIF, BMP, TIFF, AVIF and HEIC are",
        )
    raise ImageError("not_an_image", "the first bytes are those of no picture format")


_PNG = b"\x89PNG\r\n\x1a\n"
_DIB_SIZES = {struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124)}

# A marker is 0xFF and a byte that is neither stuffing, fill, a restart nor a start of image.
_JPEG_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_JPEG_MARKERS = frozenset(bytes([n]) for n in (*range(0x02, 0xD0), *range(0xD9, 0xFF)))
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MOST_SEGMENTS = 10_000


def jpeg(data: bytes) -> Header:
    """Segments up to the first scan (ITU T.81, annex B), then the end marker."""
    width = height = bits = components = 0
    orientation, position, progressive = 1, 2, False
    for _ in range(_MOST_SEGMENTS):
        # A segment nearly always begins where the last one ended; a search costs far more.
        start = position + 2
        if data[position : position + 1] != b"\xff" or data[start - 1 : start] not in _JPEG_MARKERS:
            match = _JPEG_MARKER.search(data, position)
            if match is None:
                break
            start = match.end()
        marker = data[start - 1]
        if marker == 0xD9:
            raise ImageError("corrupt", "a JPEG that ends before its first scan")
        if marker == 0xDA:
            if not bits:
                raise ImageError("corrupt", "a JPEG whose scan comes before its size")
            _check_scans(data, start, progressive or data[start + 2] < components, width * height)
            return Header(width, height, data.rfind(b"\xff\xd9", start) > 0, orientation, bits)
        if marker in _JPEG_FRAMES:
            bits, height, width, components = struct.unpack_from(">BHHB", data, start + 2)
            progressive = marker & 3 == 2
        elif marker == 0xE1 and data[start + 2 : start + 8] == b"Exif\0\0":
            orientation = exif_orientation(data[start + 8 : start + _u16(data, start)])
        position = start + _u16(data, start)
    else:
        raise ImageError(
            "corrupt", f"a JPEG with more than {_MOST_SEGMENTS:,} segments before its scan"
        )
    if bits:
        return Header(width, height, False, orientation, bits)
    raise IndexError


_JPEG_SCAN_END = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_MOST_SCANS, _MOST_SCANNED = 5_000, 5_000_000_000


def _check_scans(data: bytes, position: int, several: bool, pixels: int) -> None:
    """Refuse what a few bytes a scan would keep a decoder busy with for hours."""
    if not several or data.find(b"\xff\xda", position) < 0:
        return
    scans, end = 1, position + _u16(data, position)
    while (match := _JPEG_SCAN_END.search(data, end)) and data[match.end() - 1] != 0xD9:
        scans += data[match.end() - 1] == 0xDA
        if scans > _MOST_SCANS or scans * pixels > max(_MOST_SCANNED, 16 * pixels):
            raise ImageError("corrupt", f"a JPEG with {scans:,} scans and more over its pixels")
        end = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")


def _u16(data: bytes, position: int) -> int:
    return data[position] << 8 | data[position + 1]


_MOST_CHUNKS = 200_000


def png(data: bytes) -> Header:
    """Chunks from IHDR to IEND (ISO/IEC 15948); check sums are left to the decoder."""
    if data[12:16] not in (b"IHDR", b"") and len(data) >= 16:
        raise ImageError("corrupt", "a PNG whose first chunk is not its header")
    width, height, bits = struct.unpack_from(">IIB", data, 16)
    orientation, position, end = 1, 8, len(data)
    for _ in range(_MOST_CHUNKS):
        if position + 12 > end:
            return Header(width, height, False, orientation, bits)
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IEND":
            return Header(width, height, True, orientation, bits)
        if kind == b"eXIf":
            orientation = exif_orientation(data[position + 8 : position + 8 + length])
        position += 12 + length
    raise ImageError("corrupt", f"a PNG of more than {_MOST_CHUNKS:,} chunks")


def webp(data: bytes) -> Header:
    """The first chunk of the RIFF container (RFC 9649), and the container's length."""
    complete = struct.unpack_from("<I", data, 4)[0] + 8 <= len(data)
    kind = data[12:16]
    if len(data) < 20:
        raise IndexError
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header(width & 0x3FFF, height & 0x3FFF, complete)
    if kind == b"VP8L":
        packed = struct.unpack_from("<I", data, 21)[0]
        return Header((packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, complete)
    if kind != b"VP8X":
        raise ImageError("corrupt", "a WebP whose first chunk is not a picture's")
    if len(data) < 30:
        raise IndexError
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    return Header(width, height, complete, _webp_orientation(data) if data[20] & 0x08 else 1)


def _webp_orientation(data: bytes) -> int:
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            blob = data[position + 8 : position + 8 + length]
            return exif_orientation(blob.removeprefix(b"Exif\0\0"))
        position += 8 + length + (length & 1)
    return 1


def gif(data: bytes) -> Header:
    """The screen, the first frame and every block to the trailer (GIF89a specification)."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    position = 13 + _gif_palette(flags)
    framed = False
    try:
        while (kind := data[position]) != 0x3B:
            if kind == 0x2C:
                left, top, across, down, flags = struct.unpack_from("<HHHHB", data, position + 1)
                if not framed:
                    # Frames may reach outside a screen; the picture is then as large as both.
                    width, height, framed = max(width, left + across), max(height, top + down), True
                position += 11 + _gif_palette(flags)
            elif kind == 0x21:
                position += 2
            else:
                raise ImageError("corrupt", "a GIF with a block of no known kind")
            while length := data[position]:
                position += length + 1
            position += 1
    except (IndexError, struct.error):
        return Header(width, height, False)
    if not framed:
        raise ImageError("corrupt", "a GIF without a picture")
    return Header(width, height, True)


def _gif_palette(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


_LARGE_RUNS = 1 << 24
"""Pixels."""


def bmp(data: bytes) -> Header:
    """The two headers; uncompressed rows are counted, since the length field is often wrong."""
    offset, header = struct.unpack_from("<II", data, 10)
    if header <= 16:
        width, height, _, depth = struct.unpack_from("<HHHH" if header == 12 else "<IIHH", data, 18)
        compression = size = 0
    else:
        width, height, _, depth, compression, size = struct.unpack_from("<iiHHII", data, 18)
        width, height = max(width, 0), abs(height)
    if compression in (1, 2) and width * height > max(_LARGE_RUNS, 128 * len(data)):
        # Two bytes are 255 pixels at most; what is only skipped costs a decoder, not the file.
        raise ImageError("corrupt", "a BMP of runs that cannot fill its pixels")
    if compression in (0, 3, 6):
        size = (width * depth + 31) // 32 * 4 * height
    return Header(width, height, offset + size <= len(data))


def _heif_name(data: bytes) -> str:
    try:
        coding = read_boxes(data).coding
    except (IndexError, ImageError):
        # Cut short or damaged: the parser will say so, of what the brand promises.
        coding = b"av01" if data[8:11] == b"avi" else b"hvc1"
    name = {b"av01": "avif", b"hvc1": "heic", b"hev1": "heic"}.get(coding)
    if name is None:
        raise ImageError(
            "unsupported_format",
            f"HEIF with pictures coded as {coding.decode('ascii', 'replace')!r} is not read; HEVC"
            " and AV1 are",
        )
    return name


def heif(data: bytes) -> Header:
    """The boxes of HEIC and AVIF; a HEIC is cropped to its clean aperture, as its decoder does."""
    found = read_boxes(data)
    sides = found.width, found.height
    if found.crop is not None and found.coding != b"av01":
        sides = found.crop
    return Header(*sides, found.complete, found.orientation, found.bits)


_LARGEST_TILE = 1 << 24
"""Pixels; a decoder takes a tile's memory however small the picture."""


def tiff(data: bytes) -> Header:
    """The first directory (TIFF 6.0; BigTIFF) and whether its strips or tiles are all there."""
    tags = directory(data)
    sides = [tags.get(256, (0,)), tags.get(257, (0,))]
    orientation = tags.get(274, (1,))
    offsets = tags.get(324) or tags.get(273)
    counts = tags.get(325) or tags.get(279)
    if not all(sides) or offsets is None:
        raise ImageError("corrupt", "a TIFF whose first directory holds no picture")
    tile = tags.get(322, (0,))[0] * tags.get(323, (0,))[0]
    if tile > max(_LARGEST_TILE, 4 * sides[0][0] * sides[1][0]):
        raise ImageError(
            "corrupt", f"a TIFF with tiles of {tile:,} pixels, larger than its picture"
        )
    ends = map(int.__add__, offsets, counts) if counts else offsets
    complete = max(ends, default=0) <= len(data)
    bits = tags.get(258) or (1,)
    return Header(sides[0][0], sides[1][0], complete, valid_orientation(orientation), bits[0])


_SIGNATURES: dict[str, Callable[[bytes], bool]] = {
    "jpeg": lambda data: data.startswith(b"\xff\xd8\xff"),
    "png": lambda data: data.startswith(_PNG),
    "webp": lambda data: data.startswith(b"RIFF") and data[8:12] == b"WEBP",
    "gif": lambda data: data.startswith((b"GIF87a", b"GIF89a")),
    "bmp": lambda data: data.startswith(b"BM") and data[14:18] in _DIB_SIZES,
    "tiff": lambda data: (
        data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")) and data[8:10] != b"CR"
    ),
}
_PARSERS: dict[str, Parser] = {
    "jpeg": jpeg,
    "png": png,
    "webp": webp,
    "gif": gif,
    "bmp": bmp,
    "tiff": tiff,
}
