"""What real archives hold beside sound photos: odd encodings, damage, things that are no picture.

Knows no scenes: each file is made from a picture that it is given.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

_ORIENTATION = 274
"""The EXIF tag; 6 means that the stored picture must be turned clockwise by 90 degrees."""


def jpeg(image: Image.Image) -> bytes:
    """A JPEG of quality 90."""
    return _encode(image, "JPEG", quality=90)


def _encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _truncated(image: Image.Image) -> bytes:
    whole = jpeg(image)
    return whole[: len(whole) * 2 // 3]


def _alpha(image: Image.Image) -> bytes:
    """The background, which the first pixel belongs to, is made transparent."""
    pixels = np.asarray(image).astype(int)
    shown = np.abs(pixels - pixels[0, 0]).max(axis=2) > 8
    alpha = (shown * 255).astype(np.uint8)
    return _encode(Image.fromarray(np.dstack([np.asarray(image), alpha])), "PNG")


def _grey16(image: Image.Image) -> bytes:
    return _encode(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG")


def _cmyk(image: Image.Image) -> bytes:
    return jpeg(image.convert("CMYK"))


def _rotated(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    return _encode(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=exif)


def _empty(_: Image.Image) -> bytes:
    return b""


def _text(_: Image.Image) -> bytes:
    return b"This file is called .jpg, but it is a line of text.\n"


def _notes(_: Image.Image) -> bytes:
    return b"Notes beside the pictures; not a picture and not called one.\n"


TROUBLES: Mapping[str, Callable[[Image.Image], bytes]] = {
    "alpha.png": _alpha,
    "cmyk.jpg": _cmyk,
    "empty.jpg": _empty,
    "grey16.png": _grey16,
    "notes.txt": _notes,
    "rotated.jpg": _rotated,
    "text.jpg": _text,
    "truncated.jpg": _truncated,
}
"""File name -> how it is made of a sound picture."""
