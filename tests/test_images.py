"""The decode policy: expected pixels for every mode, format and orientation, and every refusal."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw, features

from pipeline import images
from pipeline.errors import ImageError
from pipeline.images import Limits, Probe, Transform, decode, load, probe

FORMATS = ["jpeg", "png", "webp", "gif", "bmp", "tiff"]
AVIF = ["avif"] if features.check("avif") else []


def encode(image: Image.Image, fmt: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt.upper(), **options)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    picture = decode(data)
    assert picture.mode == "RGB"
    return np.asarray(picture).astype(int)


def photo(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth colour gradients with a white corner at the top left."""
    y, x = np.mgrid[0:height, 0:width]
    rgb = np.stack([x * 200 // width, y * 200 // height, (x + y) * 200 // (width + height)], axis=2)
    rgb[: height // 4, : width // 4] = 255
    return Image.fromarray(rgb.astype(np.uint8))


def png(
    width: int, height: int, bits: int, colour: int, rows: bytes, *chunks: tuple[bytes, bytes]
) -> bytes:
    """A PNG by hand, for the depths that Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts)


def code_of(data: bytes, limits: Limits | None = None) -> str:
    """The code that decode and probe both refuse `data` with."""
    limits = limits or Limits()
    with pytest.raises(ImageError) as by_decode:
        decode(data, limits)
    with pytest.raises(ImageError) as by_probe:
        probe(data, limits)
    assert by_probe.value.code == by_decode.value.code
    return by_decode.value.code


@pytest.mark.parametrize("fmt", [*FORMATS, *AVIF])
def test_every_format_gives_its_pixels_and_its_probe(fmt: str) -> None:
    image = photo()
    options = {
        "jpeg": {"quality": 95, "subsampling": 0},
        "webp": {"lossless": True},
        "avif": {"quality": 95, "subsampling": "4:4:4"},
    }.get(fmt, {})
    data = encode(image, fmt, **options)
    assert probe(data) == Probe(fmt, {"jpeg": "jpg", "tiff": "tif"}.get(fmt, fmt), 48, 32)
    tolerance = {"jpeg": 25, "gif": 40, "avif": 12}.get(fmt, 0)
    assert np.abs(pixels(data) - np.asarray(image)).max() <= tolerance


@pytest.mark.parametrize(
    "options", [{"lossless": True}, {"quality": 90}, {"exif": b"Exif\0\0II*\0\x08\0\0\0\0\0"}]
)
def test_webp_sizes_are_read_from_all_three_layouts(options: dict[str, object]) -> None:
    found = probe(encode(photo(37, 21), "webp", **options))
    assert (found.width, found.height) == (37, 21)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["jpeg", "png", "webp", "tiff", *AVIF])
def test_exif_orientation_puts_the_white_corner_where_the_camera_says(
    fmt: str, orientation: int
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"tiff": {"tiffinfo": {274: orientation}}}.get(fmt, {"exif": exif})
    data = encode(photo(), fmt, **options)
    upright = pixels(data)
    found = probe(data)
    assert (found.width, found.height) == ((48, 32) if orientation < 5 else (32, 48))
    assert upright.shape == (found.height, found.width, 3)
    # EXIF 2.3: where the stored first row and first column appear.
    row, column = {
        1: (0, 0),
        2: (0, -1),
        3: (-1, -1),
        4: (-1, 0),
        5: (0, 0),
        6: (0, -1),
        7: (-1, -1),
        8: (-1, 0),
    }[orientation]
    corners = {(r, c): upright[r, c].sum() for r in (0, -1) for c in (0, -1)}
    assert max(corners, key=lambda place: corners[place]) == (row, column)
    if orientation == 5:  # transposed: red grows downwards, green to the right
        assert upright[40, 16, 0] > upright[16, 16, 0] and upright[24, 30, 1] > upright[24, 10, 1]


def heic(image: Image.Image, **options: object) -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    return encode(image, "heif", quality=95, **options)


@pytest.mark.parametrize(
    ("kind", "value", "corner"),
    [
        ("free", 0, (0, 0)),
        *(("irot", 0, (0, 0)), ("irot", 1, (-1, 0)), ("irot", 2, (-1, -1)), ("irot", 3, (0, -1))),
        *(("imir", 0, (-1, 0)), ("imir", 1, (0, -1))),
    ],
)
def test_heic_is_turned_once_and_by_its_own_properties(
    kind: str, value: int, corner: tuple[int, int]
) -> None:
    exif = Image.Exif()
    exif[274] = 6
    data = bytearray(heic(photo(128, 64), exif=exif))
    # The colour property becomes one that turns (ISO/IEC 23008-12, 6.5.10 and 6.5.12).
    at = data.index(b"colr")
    data[at : at + 5] = kind.encode() + bytes([value])
    upright, found = pixels(bytes(data)), probe(bytes(data))
    assert found.format == found.extension == "heic"
    assert upright.shape == (found.height, found.width, 3)
    assert (found.width, found.height) == ((64, 128) if kind == "irot" and value % 2 else (128, 64))
    corners = {(r, c): upright[r, c].sum() for r in (0, -1) for c in (0, -1)}
    assert max(corners, key=lambda place: corners[place]) == corner


def test_heic_is_cropped_to_its_clean_aperture_and_keeps_its_caps() -> None:
    data = heic(photo(50, 30))
    assert b"clap" in data and probe(data) == Probe("heic", "heic", 50, 30)
    assert np.abs(pixels(data) - np.asarray(photo(50, 30))).mean() < 6
    assert code_of(data, Limits(max_pixels=1499)) == "too_many_pixels"
    at = data.index(b"ispe") + 8
    claims = data[:at] + struct.pack(">II", 2**31, 2**31) + data[at + 8 :]
    claims = claims.replace(b"clap", b"free")
    assert code_of(claims) == "too_many_pixels"
    assert code_of(data[:-1]) == code_of(data[:200]) == "truncated"


def test_heic_without_its_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(photo())
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(ImageError, match=r"unsupported_format.*captionmill\[heif\]"):
        decode(data)
    assert code_of(data) == "unsupported_format"


@pytest.mark.skipif(not AVIF, reason="this Pillow reads no AVIF")
def test_avif_alpha_depth_and_animation() -> None:
    clear = encode(Image.new("RGBA", (8, 8), (10, 10, 10, 0)), "avif", quality=100)
    assert (pixels(clear) >= 250).all()
    first, second = Image.new("RGB", (8, 8), (200, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 200))
    data = encode(first, "avif", save_all=True, append_images=[second])
    assert np.abs(pixels(data)[4, 4] - [200, 0, 0]).max() <= 8
    assert probe(data) == Probe("avif", "avif", 8, 8)
    assert code_of(encode(photo(), "avif").replace(b"av01", b"j2k1")) == "unsupported_format"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_alpha_is_laid_on_white(mode: str) -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(10, 10, 10, 255), (10, 10, 10, 0), (10, 10, 10, 128)])
    data = encode(image.convert(mode), "tiff" if mode == "PA" else "png")
    assert np.abs(pixels(data)[0, :, 0] - [10, 255, 132]).max() <= 1


def test_transparent_palette_entries_are_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putdata([0, 1])
    for data in (encode(image, "png", transparency=1), encode(image, "gif", transparency=1)):
        assert pixels(data).tolist() == [[[200, 0, 0], [255, 255, 255]]]
    half = encode(image, "png", transparency=bytes([255, 128]))
    assert np.abs(pixels(half)[0, 1] - [127, 127, 227]).max() <= 1


@pytest.mark.parametrize(
    ("bits", "colour", "row", "key", "expected"),
    [
        (1, 0, b"\x40", b"\0\1", [0, 255]),
        (2, 0, b"\x60", b"\0\2", [85, 255]),
        (4, 0, b"\x2c", b"\0\x0c", [34, 255]),
        (8, 0, b"\x2c\x0c", b"\0\x0c", [44, 255]),
        (16, 0, b"\x40\x40\x12\x34", b"\x12\x34", [64, 255]),
        (8, 2, b"\1\1\1\2\2\2", b"\0\2\0\2\0\2", [1, 255]),
        (16, 2, b"\1\1" * 3 + b"\2\3" * 3, b"\2\3" * 3, [1, 255]),
    ],
)
def test_the_png_colour_key_is_white_at_every_depth(
    bits: int, colour: int, row: bytes, key: bytes, expected: list[int]
) -> None:
    data = png(2, 1, bits, colour, b"\0" + row, (b"tRNS", key))
    assert pixels(data)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_bilevel_and_palette_become_rgb(mode: str) -> None:
    image = Image.new("L", (2, 1))
    image.putdata([0, 255])
    assert pixels(encode(image.convert(mode), "png")).tolist() == [[[0] * 3, [255] * 3]]


def ramp(dtype: str, top: float) -> Image.Image:
    return Image.fromarray(np.linspace(0, top, 256).astype(dtype).reshape(16, 16))


@pytest.mark.parametrize(
    "data",
    [
        encode(ramp("uint16", 65535), "png"),
        encode(ramp("uint16", 65535), "tiff"),
        encode(
            Image.frombytes("I;16B", (16, 16), np.linspace(0, 65535, 256).astype(">u2").tobytes()),
            "tiff",
        ),
        encode(ramp("int32", 65535), "tiff"),
        encode(ramp("int32", 2_000_000_000), "tiff"),
        encode(ramp("float32", 1.0), "tiff"),
        encode(ramp("float32", 255.0), "tiff"),
        encode(ramp("float32", 1e9), "tiff"),
    ],
    ids=[
        "png16",
        "tiff16",
        "tiff16-big-endian",
        "int",
        "wide-int",
        "unit-float",
        "byte-float",
        "wide-float",
    ],
)
def test_a_deep_grey_ramp_stays_a_ramp(data: bytes) -> None:
    grey = pixels(data)[:, :, 0].ravel()
    assert np.abs(grey - np.arange(256)).max() <= 1


def test_sixteen_bit_white_is_zero_is_inverted() -> None:
    data = encode(ramp("uint16", 65535), "tiff", tiffinfo={262: 0})
    if decode_photometric(data) != 0:
        pytest.fail("the file under test does not say white-is-zero")
    assert np.abs(pixels(data)[:, :, 0].ravel() - np.arange(255, -1, -1)).max() <= 1


def decode_photometric(data: bytes) -> int:
    with Image.open(io.BytesIO(data)) as image:
        return int(image.tag_v2[262])  # type: ignore[attr-defined]


@pytest.mark.parametrize("fmt", ["jpeg", "tiff"])
def test_cmyk_is_not_inverted(fmt: str) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = pixels(encode(image, fmt))
    assert np.abs(red - [255, 0, 0]).max() <= 4


def test_ycck_is_the_same_picture_as_its_cmyk() -> None:
    plain = encode(Image.new("CMYK", (16, 16), (128, 128, 128, 0)), "jpeg")
    adobe = plain.index(b"Adobe")
    # A flat grey has the same component values in YCCK; only the transform byte says so.
    ycck = plain[: adobe + 11] + b"\2" + plain[adobe + 12 :]
    assert np.abs(pixels(ycck) - pixels(plain)).max() <= 4


def icc(gamma: float) -> bytes:
    """sRGB's profile with another tone curve: a minimal, valid matrix profile."""
    base = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    curve = b"curv\0\0\0\0\0\0\0\1" + struct.pack(">H", round(gamma * 256)) + b"\0\0"
    offset = len(base)
    for entry in range(struct.unpack_from(">I", base, 128)[0]):
        at = 132 + 12 * entry
        if base[at : at + 4] in (b"rTRC", b"gTRC", b"bTRC"):
            struct.pack_into(">II", base, at + 4, offset, len(curve))
    base += curve
    struct.pack_into(">I", base, 0, len(base))
    return bytes(base).replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))


def test_a_colour_profile_is_applied_and_a_broken_or_srgb_one_is_not() -> None:
    image = Image.new("RGB", (4, 4), (128, 128, 128))
    linear = pixels(encode(image, "png", icc_profile=icc(1.0)))
    assert np.abs(linear - 188).max() <= 2  # linear 0.502 is sRGB 188 (IEC 61966-2-1)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"not a profile" * 20, icc(1.0)[:200]):
        assert (pixels(encode(image, "png", icc_profile=profile)) == 128).all()
    grey = Image.new("L", (4, 4), 128)
    assert (pixels(encode(grey, "png", icc_profile=icc(1.0))) == 128).all()


@pytest.mark.parametrize("fmt", ["gif", "png", "webp", "tiff"])
def test_an_animation_is_its_first_frame(fmt: str) -> None:
    first, second = Image.new("RGB", (8, 8), (200, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 200))
    options = {"lossless": True} if fmt == "webp" else {}
    data = encode(first, fmt, save_all=True, append_images=[second], **options)
    assert pixels(data)[4, 4].tolist() == [200, 0, 0]


def test_a_jpeg_is_reduced_only_where_twice_the_target_is_left() -> None:
    image = photo(640, 480)
    ImageDraw.Draw(image).ellipse((100, 100, 400, 300), fill=(20, 90, 200))
    data = encode(image, "jpeg", quality=95)
    sizes = {target: decode(data, target=target).size for target in (240, 121, 120, 61, 60, 30, 4)}
    assert sizes == {
        240: (640, 480),
        121: (640, 480),
        120: (320, 240),
        61: (320, 240),
        60: (160, 120),
        30: (80, 60),
        4: (80, 60),
    }
    transform = Transform(size=64)
    full = np.asarray(decode(data).resize((64, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    error = np.mean((load(data, transform).astype(float) - full) ** 2)
    assert 10 * np.log10(255**2 / error) > 45


def test_load_squashes_crops_and_pads() -> None:
    image = Image.new("RGB", (80, 40), (200, 0, 0))
    image.paste((0, 0, 200), (20, 0, 60, 40))
    data = encode(image, "png")
    squash, crop, pad = (
        load(data, Transform(size=20, resize=kind)) for kind in ("squash", "crop", "pad")
    )  # type: ignore[arg-type]
    assert squash.shape == (3, 20, 20) and squash.dtype == np.uint8 and squash.flags.c_contiguous
    assert squash[:, 10, 2].tolist() == [200, 0, 0] and squash[:, 10, 10].tolist() == [0, 0, 200]
    assert np.abs(crop[:, :, 3:-3].astype(int) - np.array([0, 0, 200])[:, None, None]).max() <= 1
    assert (pad[:, :5] == 128).all() and (pad[:, 15:] == 128).all()
    assert pad[:, 10, 2].tolist() == [200, 0, 0]


def test_resizing_is_antialiased() -> None:
    stripes = Image.fromarray(np.tile([[0], [255]], (64, 128)).astype(np.uint8)).convert("RGB")
    small = load(encode(stripes, "png"), Transform(size=16))
    assert np.abs(small.astype(int) - 128).max() <= 12


def test_normalise_is_x_over_255_minus_mean_over_std() -> None:
    torch = pytest.importorskip("torch")
    transform = Transform(mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 0.25))
    given = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    out = images.normalise(given, transform)
    assert out.dtype == torch.float32 and given.flatten().tolist() == [0, 128, 255]
    assert out.flatten().tolist() == pytest.approx([-1.0, (128 / 255 - 0.25) / 0.5, 4.0])


def test_the_fingerprint_tells_every_part_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    base = Transform()
    others = [
        Transform(size=192),
        Transform(resize="pad"),
        Transform(mean=(0.5, 0.5, 0.5)),
        Transform(std=(0.5, 0.5, 0.5)),
        Transform(interpolation="bilinear"),
    ]
    assert len({t.fingerprint() for t in [base, *others]}) == 6
    assert Transform.model_validate_json(base.model_dump_json()).fingerprint() == base.fingerprint()
    before = base.fingerprint()
    monkeypatch.setattr(images, "DECODE_RECIPE", images.DECODE_RECIPE + 1)
    assert base.fingerprint() != before


def test_nothing_and_other_things_are_refused_by_code() -> None:
    assert code_of(b"") == "zero_bytes"
    assert code_of(b"hello, this is text\n") == "not_an_image"
    assert code_of(b"BMs are text too, and so is this line of it") == "not_an_image"
    assert code_of(b"<?xml version='1.0'?><note/>") == "not_an_image"
    assert code_of(encode(photo(), "png"), Limits(max_bytes=50)) == "too_many_bytes"
    assert code_of(encode(photo(), "png"), Limits(max_pixels=48 * 32 - 1)) == "too_many_pixels"


@pytest.mark.parametrize(
    "data",
    [
        b"8BPS\0\1" + bytes(20),
        b"<?xml version='1.0'?>\n<svg xmlns='x'></svg>",
        b"%PDF-1.7\n",
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(8),
        b"\0\0\1\0\1\0\x10\x10" + bytes(16),
        b"P6\n2 2\n255\n" + bytes(12),
        b"II*\0\x10\0\0\0CR\2\0" + bytes(20),
    ],
    ids=["psd", "svg", "pdf", "jp2", "ico", "pnm", "cr2"],
)
def test_other_picture_formats_are_named_as_such(data: bytes) -> None:
    assert code_of(data) == "unsupported_format"


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_file_cut_anywhere_is_refused(fmt: str) -> None:
    data = encode(photo(), fmt)
    for end in {3, 7, 15, 30, 60, len(data) // 2, len(data) - 20, len(data) - 1}:
        # Bytes 3..15 of some formats are no signature yet; all later cuts are known for what they are.
        assert code_of(data[:end]) in (
            {"truncated"} if end >= 30 else {"truncated", "not_an_image"}
        )
    if fmt in {"jpeg", "png", "gif", "webp"}:
        assert decode(data + b"trailing bytes after the end").size == (48, 32)


def test_zero_sides_and_endless_sides_are_bad_dimensions() -> None:
    assert code_of(png(0, 5, 8, 0, b"")) == "bad_dimensions"
    assert code_of(png(140_000_000, 1, 1, 0, b"\0")) == "bad_dimensions"
    jpeg = encode(photo(), "jpeg")
    frame = jpeg.index(b"\xff\xc0")
    assert code_of(jpeg[: frame + 5] + b"\0\0" + jpeg[frame + 7 :]) == "bad_dimensions"


def test_a_claimed_size_is_refused_before_its_memory_is_taken() -> None:
    assert code_of(png(2**31, 2**31, 8, 2, b"")) == "too_many_pixels"
    assert code_of(png(2**31 - 1, 2**31 - 1, 16, 6, b"")) == "too_many_pixels"
    program = (
        "import resource, sys\n"
        "from pipeline.images import decode, ImageError\n"
        "data = sys.stdin.buffer.read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    decode(data)\n"
        "except ImageError as error:\n    print(error.code)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    row = b"\0" + bytes(30_000 // 8)
    real = png(30_000, 30_000, 1, 0, row * 30_000)
    done = subprocess.run(
        [sys.executable, "-c", program], input=real, capture_output=True, check=True
    )
    code, grown = done.stdout.decode().split()
    assert code == "too_many_pixels" and int(grown) < 20_000  # kB; the pixels would be 900,000


def test_a_decoder_that_sees_another_size_is_held_to_the_caps_too() -> None:
    data = encode(photo(), "jpeg")
    frame = data.index(b"\xff\xc0")
    length = struct.unpack_from(">H", data, frame + 2)[0]
    segment = bytearray(data[frame : frame + 2 + length])
    struct.pack_into(">HH", segment, 5, 65_000, 65_000)
    scan = data.index(b"\xff\xda")
    # The last frame header counts, for the parser as for the decoder.
    assert code_of(data[:scan] + bytes(segment) + data[scan:]) == "too_many_pixels"


def corpus() -> dict[str, bytes]:
    image, exif = photo(24, 20), Image.Exif()
    exif[274] = 6
    files = {fmt: encode(image, fmt) for fmt in FORMATS}
    files |= {
        "progressive": encode(image, "jpeg", progressive=True, exif=exif),
        "cmyk": encode(image.convert("CMYK"), "jpeg"),
        "icc": encode(image, "jpeg", icc_profile=icc(1.8)),
        "png16": encode(ramp("uint16", 65535), "png"),
        "rgba": encode(image.convert("RGBA"), "png", exif=exif),
        "palette": encode(image.quantize(16), "png", transparency=3),
        "animation": encode(
            image, "gif", save_all=True, append_images=[Image.new("RGB", (24, 20))]
        ),
        "lossless": encode(image, "webp", lossless=True, exif=exif),
        "float": encode(ramp("float32", 3.0), "tiff"),
        "lzw": encode(image, "tiff", compression="tiff_lzw"),
        "jpeg-in-tiff": encode(image, "tiff", compression="jpeg"),
        "rle": encode(image.quantize(16), "bmp"),
    }
    return files


def mutations(data: bytes, seed: str, count: int) -> list[bytes]:
    dice = random.Random(seed)
    out = []
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(dice.choice([1, 1, 2, 8, 40])):
            # Headers are where parsers break: half of the hits land in the first 64 bytes.
            at = dice.randrange(min(64, len(data)) if dice.random() < 0.5 else len(data))
            action = dice.random()
            if action < 0.6:
                changed[min(at, len(changed) - 1)] = dice.choice(
                    [0, 255, 127, 128, dice.randrange(256)]
                )
            elif action < 0.8:
                del changed[at : at + dice.randrange(1, 9)]
            else:
                changed[at:at] = dice.randbytes(dice.randrange(1, 9))
            if not changed:
                break
        out.append(bytes(changed))
    return out


@pytest.mark.parametrize("name", sorted(corpus()))
def test_mutated_files_end_in_a_picture_or_our_error(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    good = corpus()[name]
    transform = Transform(size=16)
    assert load(good, transform).shape == (3, 16, 16)
    ends: dict[str, int] = {}
    with warnings.catch_warnings(record=True) as caught:
        for data in mutations(good, name, 150):
            try:
                found = probe(data)
                assert min(found.width, found.height) > 0
                end = "picture" if load(data, transform).shape == (3, 16, 16) else "shape"
            except ImageError as error:
                end = error.code
                assert "0x" not in error.detail
            ends[end] = ends.get(end, 0) + 1
    assert set(ends) <= {"picture", *images.CODES}, ends
    assert caught == [] and capfd.readouterr() == ("", "")


def test_threads_get_what_one_thread_gets() -> None:
    files = list(corpus().values())
    transform = Transform(size=32, resize="crop")
    alone = [load(data, transform) for data in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: load(data, transform), files * 5))
    assert all((a == b).all() for a, b in zip(alone * 5, together, strict=True))


def test_pillow_and_the_users_warning_filters_stay_as_they_were() -> None:
    program = (
        "import warnings, numpy, pydantic, yaml\n"
        "from PIL import Image, ImageFile\n"
        "before, settings = list(warnings.filters), (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)\n"
        "import sys, pipeline.images\n"
        "pipeline.images._silence_pillow()\npipeline.images._silence_pillow()\n"
        "assert settings == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)\n"
        "added = [f for f in warnings.filters if f not in before]\n"
        "assert [f[3] and f[3].pattern for f in added] == ['PIL\\\\.'], added\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
