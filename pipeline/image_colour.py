"""Any picture mode to 8-bit sRGB: 16-bit scaled, alpha on white, ICC profiles applied.

Knows Pillow's modes and nothing of files.
"""

from __future__ import annotations

import functools
import io
import math
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageCms

_LARGEST_PROFILE = 4 << 20
_PROFILED_MODES = {"L", "RGB", "CMYK"}


def to_rgb(image: Image.Image, bits: int) -> Image.Image:
    """`image`, loaded, as RGB on white; `bits` a sample as its file says, where modes do not.

    A colour profile that is damaged or made for another kind of picture is ignored.
    """
    colour, alpha = _split(image, bits)
    colour = _to_srgb(colour, image.info.get("icc_profile"))
    if alpha is None:
        return colour
    page = Image.new("RGB", colour.size, (255, 255, 255))
    page.paste(colour, mask=alpha)
    return page


def _split(image: Image.Image, bits: int) -> tuple[Image.Image, Image.Image | None]:
    """The colours (L, RGB, CMYK, ...) and the alpha channel, if there is one."""
    mode, key = image.mode, image.info.get("transparency")
    if mode == "P" and key is None:
        return image.convert("RGB"), None
    if mode in {"P", "PA"}:
        image = image.convert("RGBA")
    if mode in {"LA", "RGBA"} or image.mode == "RGBA":
        colour = image.getchannel("L") if mode == "LA" else image.convert("RGB")
        return colour, image.getchannel("A")
    if mode in {"I", "F"} or mode.startswith("I;"):
        return _deep_grey(image, bits, key if isinstance(key, int) else None)
    if mode == "1":
        image = image.convert("L")
    if isinstance(key, int) and image.mode == "L":
        # Pillow widens 2 and 4-bit greys to 8 bits but leaves the key as the file has it.
        return image, _differs(image, key * {2: 85, 4: 17}.get(bits, 1))
    if isinstance(key, tuple) and image.mode == "RGB":
        keys = [value >> 8 if bits == 16 else value for value in key]
        return image, functools.reduce(ImageChops.lighter, map(_differs, image.split(), keys))
    return image, None


def _differs(band: Image.Image, key: int) -> Image.Image:
    return band.point([0 if value == key else 255 for value in range(256)])


def _deep_grey(
    image: Image.Image, bits: int, key: int | None
) -> tuple[Image.Image, Image.Image | None]:
    """More than 8 bits a pixel scaled, never clipped, to 8.

    Unsigned integers of up to 16 bits scale by their whole range. Where a file does not
    say what is white (wider or signed integers, floats) 0..1 floats, 0..255 and 0..65535
    are taken as such and anything else is stretched from its least to its greatest value.
    """
    if image.mode.startswith("I;"):
        top = (1 << bits) - 1 if 8 < bits < 16 else 65535
        table = np.rint(np.arange(65536).clip(max=top) * (255 / top)).astype(np.uint8)
        # TIFF photometric interpretation 0 is white-is-zero; Pillow inverts only 8-bit ones.
        if getattr(image, "tag_v2", {}).get(262) == 0:
            table = 255 - table
        return Image.fromarray(table[np.asarray(image)]), _unlike(image, key)
    low, high = math.inf, -math.inf
    for _, values in _strips(image):
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    shift = 0.0
    if low < 0 or high > 65535:
        shift, scale = low, 255 / max(high - low, 1e-30)
    elif image.mode == "F" and high <= 1:
        scale = 255.0
    else:
        scale = 1.0 if image.mode == "F" and high <= 255 else 255 / 65535
    grey = np.empty((image.height, image.width), np.uint8)
    for top, values in _strips(image):
        shifted = values - shift if shift else values
        grey[top : top + len(values)] = np.rint(shifted * scale).clip(0, 255)
    return Image.fromarray(grey), _unlike(image, key)


def _unlike(image: Image.Image, key: int | None) -> Image.Image | None:
    """The alpha channel of a colour key."""
    if key is None:
        return None
    return Image.fromarray(np.where(np.asarray(image) == key, 0, 255).astype(np.uint8))


def _strips(image: Image.Image) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """(first row, values) of a few rows at a time: copies of all would take gigabytes."""
    rows = max(1, (1 << 22) // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        values = np.asarray(strip).astype(np.float32)
        yield top, np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _to_srgb(image: Image.Image, profile: object) -> Image.Image:
    if image.mode == "LAB":
        return _apply(image, None)
    if (
        isinstance(profile, bytes)
        and image.mode in _PROFILED_MODES
        and 128 < len(profile) <= _LARGEST_PROFILE
        and not _is_srgb(profile)
    ):
        return _apply(image, profile)
    return image if image.mode == "RGB" else image.convert("RGB")


def _apply(image: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _transform(profile, image.mode)
    if transform is None:
        return image.convert("RGB")
    converted = ImageCms.applyTransform(image, transform)
    assert converted is not None
    return converted


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile (none: CIELAB) to sRGB; None where the profile cannot be used."""
    try:
        source = ImageCms.ImageCmsProfile(
            ImageCms.createProfile("LAB") if profile is None else io.BytesIO(profile)
        )
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (OSError, TypeError, ValueError, ImageCms.PyCMSError):
        return None


def _is_srgb(profile: bytes) -> bool:
    """Whether the profile's description names sRGB: most do, and converting would cost 5 ms."""
    try:
        for entry in range(min(struct.unpack_from(">I", profile, 128)[0], 100)):
            name, offset, length = struct.unpack_from(">4sII", profile, 132 + 12 * entry)
            if name == b"desc":
                # Version 4 writes UTF-16.
                return b"sRGB" in profile[offset : offset + length].replace(b"\0", b"")
    except struct.error:
        return False
    return False
