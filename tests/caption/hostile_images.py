"""Pictures as nobody should send them: what each is, its bytes, and how it must end."""

from __future__ import annotations

import importlib.util
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

PICTURE = "picture"
Ends = set[str]


def small(mode: str = "RGB", size: tuple[int, int] = (24, 18)) -> Image.Image:
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    rgb = np.stack([x * 200 // size[0], y * 200 // size[1], x + y], axis=2)
    return Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).convert(mode)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour: int, pixels: bytes, *before: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = (
        png_chunk(b"IHDR", header),
        *before,
        png_chunk(b"IDAT", pixels),
        png_chunk(b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def zeros(size: int) -> bytes:
    """zlib's stream of `size` zeros, made without holding them."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    pieces = [packer.compress(block) for _ in range(size >> 20)]
    return b"".join(pieces) + packer.compress(bytes(size & (1 << 20) - 1)) + packer.flush()


def png_with(*chunks: bytes) -> bytes:
    return png(2, 2, 8, 2, zlib.compress(b"\0" + bytes(6) + b"\0" + bytes(6)), *chunks)


def jpeg(**options: object) -> bytes:
    return encode(small(), "JPEG", **options)


def patched(data: bytes, at: int, patch: bytes) -> bytes:
    return data[:at] + patch + data[at + len(patch) :]


def jpeg_sized(width: int, height: int) -> bytes:
    data = jpeg()
    return patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", height, width))


def jpeg_of_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is repeated: some bytes each, all pixels each."""
    data = encode(small(size=(2000, 2000)), "JPEG", progressive=True, quality=5)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * count + b"\xff\xd9"


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(*segments: bytes) -> bytes:
    data = jpeg()
    return data[:2] + b"".join(segments) + data[2:]


def exif(*entries: bytes) -> bytes:
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(entries)


def tiff(entries: dict[int, tuple[int, int, int]], data: bytes, following: int = 0) -> bytes:
    """A little-endian TIFF: tag -> (type, count, value); `data` lies at 8."""
    return tiff_of_pairs([(tag, *entry) for tag, entry in sorted(entries.items())], data, following)


def tiff_of_pairs(
    entries: list[tuple[int, int, int, int]], data: bytes, following: int = 0
) -> bytes:
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries)
    start = 8 + len(data)
    return b"II*\0" + struct.pack("<I", start) + data + directory + struct.pack("<I", following)


def tiff_tags(width: int, height: int, size: int) -> dict[int, tuple[int, int, int]]:
    return {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, 8),
        262: (3, 1, 1),
        273: (4, 1, 8),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, size),
    }


def tiff_of_floats() -> bytes:
    data = zeros(4 * 10_000 * 10_000)
    sample = {258: (3, 1, 32), 339: (3, 1, 3)}
    return tiff(tiff_tags(10_000, 10_000, len(data)) | sample, data)


def tiff_tile_bomb() -> bytes:
    data = zeros(30_000 * 30_000 // 9)
    tags = tiff_tags(16, 16, len(data)) | {
        322: (4, 1, 30_000),
        323: (4, 1, 30_000),
        324: (4, 1, 8),
        325: (4, 1, len(data)),
    }
    del tags[273], tags[278], tags[279]
    return tiff(tags, data)


def tiff_overlapping_tags() -> bytes:
    tags = tiff_tags(4, 4, 16)
    data = zlib.compress(bytes(16)).ljust(2 << 20, b"\0")
    tags |= {30_000 + n: (1, 2 << 20, 8) for n in range(4000)}
    return tiff(tags, data)


def bmp(width: int, height: int, depth: int, compression: int, data: bytes) -> bytes:
    head = struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, depth, compression, len(data), 0, 0, 0, 0
    )
    palette = bytes(1024) if depth == 8 else b""
    offset = 14 + len(head) + len(palette)
    return struct.pack("<2sIHHI", b"BM", offset + len(data), 0, 0, offset) + head + palette + data


def gif(width: int, height: int, frame: tuple[int, int], codes: bytes) -> bytes:
    screen = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    blocks = b"".join(
        bytes([len(codes[n : n + 255])]) + codes[n : n + 255] for n in range(0, len(codes), 255)
    )
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, *frame, 0) + b"\2" + blocks + b"\0"
    return screen + image + b"\x3b"


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I", len(body) + 8) + kind + body


def avif() -> bytes:
    return encode(small(), "AVIF")


def avif_sized(width: int, height: int) -> bytes:
    data = avif()
    return patched(data, data.index(b"ispe") + 8, struct.pack(">II", width, height))


FTYP = box(b"ftyp", b"avif\0\0\0\0avifmif1")


def avif_of_extents() -> bytes:
    """100,000 items of 65,535 extents each, of which none takes a byte."""
    items = struct.pack(">HHH", 1, 0, 65_535) * 60_000
    iloc = box(b"iloc", bytes(4), b"\0\0", struct.pack(">H", 60_000), items)
    iinf = box(b"iinf", bytes(4), b"\0\1", box(b"infe", b"\2\0\0\0\0\1\0\0av01\0"))
    pitm = box(b"pitm", bytes(4), b"\0\1")
    return FTYP + box(b"meta", bytes(4), pitm, iinf, iloc)


def animation(kind: str) -> bytes:
    frames = [small().rotate(90 * n) for n in range(1, 4)]
    return encode(small(), kind, save_all=True, append_images=frames)


def huge_but_allowed() -> bytes:
    """144,000,000 grey pixels in some 140 kB."""
    return png(12_000, 12_000, 8, 0, zeros(12_000 * 12_001))


CASES: dict[str, tuple[Callable[[], bytes], Ends]] = {
    "nothing": (lambda: b"", {"zero_bytes"}),
    "a byte": (lambda: b"\xff", {"not_an_image"}),
    "text": (lambda: b"hello, world\n", {"not_an_image"}),
    "an error page": (lambda: b"<!DOCTYPE html><html>404</html>", {"not_an_image"}),
    "a pointer of git lfs": (lambda: b"version https://git-lfs\noid sha256:", {"not_an_image"}),
    "zeros": (lambda: bytes(100_000), {"not_an_image"}),
    "ones": (lambda: b"\xff" * 100_000, {"not_an_image", "truncated", "corrupt"}),
    "a video": (lambda: box(b"ftyp", b"isom\0\0\2\0isomavc1"), {"not_an_image"}),
    "a zip": (lambda: b"PK\3\4" + bytes(60), {"not_an_image"}),
    "a pickle": (lambda: b"\x80\4\x95\x0b\0\0\0\0\0\0\0\x8c\2os.", {"not_an_image"}),
    "an svg bomb": (
        lambda: b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "&c;&c;">]><svg>&b;</svg>',
        {"unsupported_format"},
    ),
    "postscript": (lambda: b"%!PS\n(/etc/passwd) (r) file", {"unsupported_format"}),
    "jpeg 2000": (lambda: encode(small(), "JPEG2000"), {"unsupported_format"}),
    "an icon": (lambda: encode(small(), "ICO"), {"unsupported_format"}),
    "camera raw": (lambda: b"II*\0\x10\0\0\0CR\2\0" + bytes(99), {"unsupported_format"}),
    "png of 2^31 x 2^31": (lambda: png(2**31, 2**31, 8, 2, b""), {"too_many_pixels"}),
    "png of 30,000 x 30,000": (
        lambda: png(30_000, 30_000, 1, 0, zeros(30_000 * 3751)),
        {"too_many_pixels"},
    ),
    "png of 144 megapixels": (huge_but_allowed, {PICTURE}),
    "png as long as a road": (lambda: png(140_000_000, 1, 1, 0, b""), {"bad_dimensions"}),
    "png of no width": (lambda: png(0, 7, 8, 0, zlib.compress(b"\0" * 7)), {"bad_dimensions"}),
    "png with less than it says": (lambda: png(999, 999, 8, 2, zlib.compress(b"\0")), {"corrupt"}),
    "png with more than it says": (lambda: png(2, 2, 8, 2, zeros(100 << 20)), {PICTURE}),
    "png profile bomb": (
        lambda: png_with(png_chunk(b"iCCP", b"a\0\0" + zeros(100 << 20))),
        {PICTURE, "corrupt"},
    ),
    "png text bomb": (
        lambda: png_with(png_chunk(b"zTXt", b"a\0\0" + zeros(100 << 20))),
        {PICTURE, "corrupt"},
    ),
    "png of many text bombs": (
        lambda: png_with(*[png_chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(1 << 20))] * 500),
        {PICTURE, "corrupt"},
    ),
    "png of 150,000 chunks": (
        lambda: png_with(*[png_chunk(b"tEXt", b"a\0b")] * 150_000),
        {PICTURE, "corrupt"},
    ),
    "png of 300,000 chunks": (lambda: png_with(*[png_chunk(b"abCd", b"")] * 300_000), {"corrupt"}),
    "png whose check sums lie": (
        lambda: png_with()[:-20] + bytes(8) + png_with()[-12:],
        {"corrupt"},
    ),
    "png chunk of 4 GB": (lambda: png_with(b"\xff\xff\xff\xffzTXt"), {"truncated"}),
    "png in 16 bits": (lambda: png(2, 1, 16, 6, zlib.compress(b"\0" + b"\xff" * 16)), {PICTURE}),
    "apng": (lambda: animation("PNG"), {PICTURE}),
    "jpeg of 65,535 x 65,535": (lambda: jpeg_sized(65_535, 65_535), {"too_many_pixels"}),
    "jpeg of no height": (lambda: jpeg_sized(24, 0), {"bad_dimensions"}),
    "jpeg larger than its data": (lambda: jpeg_sized(2000, 2000), {PICTURE, "corrupt"}),
    "jpeg of 3,000 scans": (lambda: jpeg_of_scans(3000), {"corrupt"}),
    "jpeg without an end": (lambda: jpeg()[:-2], {"truncated"}),
    "jpeg cut in its pixels": (lambda: jpeg(quality=95)[:-60], {"truncated"}),
    "jpeg of two starts": (lambda: b"\xff\xd8" + jpeg(), {PICTURE, "corrupt"}),
    "jpeg with junk behind": (lambda: jpeg() + b"junk" * 999, {PICTURE}),
    "jpeg after a line": (lambda: b"\n" + jpeg(), {"not_an_image"}),
    "jpeg of 30,000 comments": (lambda: jpeg_with(*[segment(0xFE, b"")] * 30_000), {"corrupt"}),
    "jpeg of an empty frame": (
        lambda: b"\xff\xd8" + segment(0xC0, b"") + b"\xff\xd9",
        {"corrupt", "truncated", "bad_dimensions"},
    ),
    "jpeg that is a bomb inside": (
        lambda: jpeg_with(segment(0xE1, exif(struct.pack("<HHII", 274, 3, 1, 6)))),
        {PICTURE},
    ),
    "jpeg of orientation 99": (
        lambda: jpeg_with(segment(0xE1, exif(struct.pack("<HHII", 274, 3, 1, 99)))),
        {PICTURE},
    ),
    "exif that points at itself": (
        lambda: jpeg_with(segment(0xE1, exif(*[struct.pack("<HHII", 34_665, 4, 1, 8)] * 3))),
        {PICTURE},
    ),
    "exif of overlapping values": (
        lambda: jpeg_with(
            segment(0xE1, exif(*[struct.pack("<HHII", n, 1, 60_000, 8) for n in range(5000)]))
        ),
        {PICTURE, "corrupt"},
    ),
    "exif junk": (lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + b"\x99" * 500)), {PICTURE}),
    "profile junk": (lambda: jpeg(icc_profile=b"\x99" * 5000), {PICTURE}),
    "profile of claims": (
        lambda: jpeg(icc_profile=struct.pack(">I", 2**32 - 1) + bytes(124) + b"\xff" * 500),
        {PICTURE},
    ),
    "progressive": (lambda: jpeg(progressive=True), {PICTURE}),
    "cmyk": (lambda: encode(small("CMYK"), "JPEG"), {PICTURE}),
    "gif of 65,535 x 65,535": (
        lambda: gif(65_535, 65_535, (65_535, 65_535), b"\x44\1"),
        {"too_many_pixels"},
    ),
    "gif whose frame is larger": (
        lambda: gif(2, 2, (60_000, 60_000), b"\x44\1"),
        {"too_many_pixels"},
    ),
    "gif of no code": (lambda: gif(9, 9, (9, 9), b""), {PICTURE, "corrupt"}),
    "gif of wild codes": (lambda: gif(9, 9, (9, 9), b"\xff" * 600), {PICTURE, "corrupt"}),
    "gif without a frame": (
        lambda: b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b"\x3b",
        {"corrupt"},
    ),
    "gif that is a zip": (lambda: encode(small("P"), "GIF") + b"PK\5\6" + bytes(18), {PICTURE}),
    "animated gif": (lambda: animation("GIF"), {PICTURE}),
    "tiff of 2^31 x 2^31": (
        lambda: tiff(tiff_tags(2**31, 2**31, 4), b"1234"),
        {"too_many_pixels"},
    ),
    "tiff of 100,000,000 floats": (tiff_of_floats, {PICTURE}),
    "tiff tile bomb": (tiff_tile_bomb, {"corrupt"}),
    "tiff strip bomb": (
        lambda: tiff(tiff_tags(4, 4, 102_000), zeros(100 << 20)),
        {PICTURE, "corrupt"},
    ),
    "tiff of overlapping tags": (tiff_overlapping_tags, {PICTURE, "corrupt"}),
    "tiff in a circle": (
        lambda: tiff(tiff_tags(2, 2, 12), zlib.compress(bytes(4)), 20),
        {PICTURE, "corrupt"},
    ),
    "tiff directory nowhere": (lambda: b"II*\0\xff\xff\xff\x7f" + bytes(40), {"truncated"}),
    "tiff of a billion strips": (
        lambda: tiff(tiff_tags(4, 4, 4) | {273: (4, 10**9, 8)}, bytes(99)),
        {"corrupt", "truncated"},
    ),
    "bigtiff that ends": (lambda: b"II+\0\x08\0\0\0" + b"\xff" * 8, {"truncated"}),
    "tiff of one tag 60,000 times": (
        lambda: tiff_of_pairs([(274, 1, 1_000_000, 8)] * 60_000, bytes(1_000_000)),
        {"corrupt"},
    ),
    "webp of 2^24 x 2^24": (
        lambda: b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff" * 6,
        {"too_many_pixels"},
    ),
    "webp cut short": (lambda: encode(small(), "WEBP")[:-9], {"truncated"}),
    "webp of another chunk": (lambda: b"RIFF\x10\0\0\0WEBPJUNK\4\0\0\0junk", {"corrupt"}),
    "animated webp": (lambda: animation("WEBP"), {PICTURE}),
    "bmp of 2^31 - 1": (lambda: bmp(2**31 - 1, 2**31 - 1, 24, 0, b""), {"too_many_pixels"}),
    "bmp of negative width": (lambda: bmp(-4, 4, 24, 0, bytes(48)), {"bad_dimensions"}),
    "bmp from the top": (lambda: bmp(4, -4, 24, 0, bytes(48)), {PICTURE}),
    "bmp of escapes": (
        lambda: bmp(9000, 9000, 8, 1, b"\1\1\0\0" * 100 + b"\0\1"),
        {PICTURE, "corrupt"},
    ),
    "bmp of empty lines": (
        lambda: bmp(12_000, 12_000, 8, 1, b"\1\1\0\0" * 12_000 + b"\0\1"),
        {"corrupt"},
    ),
    "bmp that jumps": (
        lambda: bmp(9, 9, 8, 1, b"\0\2\xff\xff" * 999 + b"\0\1"),
        {PICTURE, "corrupt"},
    ),
    "bmp of 7 bits": (lambda: bmp(4, 4, 7, 0, bytes(99)), {"corrupt"}),
    "avif of 2^31 x 2^31": (lambda: avif_sized(2**31, 2**31), {"too_many_pixels"}),
    "avif that says another size": (lambda: avif_sized(4000, 4000), {PICTURE, "corrupt"}),
    "avif cut short": (lambda: avif()[:-5], {"truncated"}),
    "avif of a box without a size": (lambda: FTYP + struct.pack(">I4s", 4, b"meta"), {"corrupt"}),
    "avif of nothing": (lambda: FTYP + box(b"mdat", bytes(9)), {"corrupt"}),
    "avif of a million boxes": (lambda: FTYP + box(b"free") * 1_000_000, {"corrupt"}),
    "avif of endless extents": (avif_of_extents, {"corrupt", "truncated"}),
    "avif whose description ends": (
        lambda: FTYP + struct.pack(">I4s", 999, b"meta") + bytes(40),
        {"truncated"},
    ),
    "heic of jpegs": (
        lambda: avif().replace(b"av01", b"jpeg"),
        {"unsupported_format"},
    ),
    "animated avif": (lambda: animation("AVIF"), {PICTURE}),
}

HEIF = importlib.util.find_spec("pillow_heif") is not None


def heic() -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return encode(small(size=(64, 64)), "HEIF")


def heic_sized(width: int, height: int) -> bytes:
    data = heic()
    return patched(data, data.index(b"ispe") + 8, struct.pack(">II", width, height))


if HEIF:
    CASES |= {
        "heic": (heic, {PICTURE}),
        "heic of 2^31 x 2^31": (lambda: heic_sized(2**31, 2**31), {"too_many_pixels"}),
        "heic that says another size": (lambda: heic_sized(3000, 3000), {PICTURE, "corrupt"}),
        "heic cut short": (lambda: heic()[:-9], {"truncated"}),
    }
else:
    CASES["heic"] = (
        lambda: box(b"ftyp", b"heic\0\0\0\0mif1heic"),
        {"unsupported_format", "corrupt", "truncated"},
    )
