"""Bytes to RGB: the one decode policy, used by training and captioning alike.

Header first: the byte and pixel caps hold before any memory is taken. EXIF orientation is
applied; CMYK, palettes, alpha (on white) and grey are converted, 16-bit is scaled, ICC
profiles go to sRGB; of an animation the first frame counts; JPEGs are decoded at a reduced
scale only where at least twice the target size is left; the resize is antialiased.

Every rejection is an `ImageError` with a code of CODES, in our own words. All functions may be called from several threads at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import re
import struct
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
from PIL import Image, _imaging
from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline import storage
from pipeline.errors import ImageError
from pipeline.image_colour import to_rgb
from pipeline.image_decoders import EXTENSIONS, UPRIGHT, decoder_of
from pipeline.image_headers import Header, identify

if TYPE_CHECKING:
    import torch

DECODE_RECIPE = 1
"""Raise it with every change that moves a pixel; captioning with another recipe is refused."""

CODES = {
    "zero_bytes": "the file is empty",
    "too_many_bytes": "the file is larger than `max_bytes`; it is not read",
    "not_an_image": "the first bytes are those of no picture format",
    "unsupported_format": "a picture format that is not read, or not without an extra",
    "truncated": "the file ends before its end marker or claimed length",
    "bad_dimensions": "a side of no pixels, or of more than a million",
    "too_many_pixels": "the header claims more than `max_pixels`; nothing is decoded",
    "corrupt": "the header or the pixels contradict themselves or cannot be decoded",
}
"""Why a picture is refused."""

logging.getLogger("PIL").addHandler(logging.NullHandler())
# libtiff prints every error to the process's stderr itself, beside reporting it; where Pillow
# was linked without exported symbols it goes on printing.
with contextlib.suppress(AttributeError, OSError):
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(None)
_PILLOW_QUIET = ("ignore", None, Warning, re.compile(r"PIL\."), 0)

_LONGEST_SIDE = 1_000_000
"""Resizing takes memory for each pixel of a side: a 150,000,000 x 1 picture would need 5 GB."""

_LARGE = 16_000_000
_one_large_picture = threading.Lock()
"""A picture of 150,000,000 pixels takes a gigabyte or two: threads decode such ones in turn."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}

_Positive = Annotated[float, Field(gt=0)]
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Limits:
    """What a file may claim before it is refused."""

    max_bytes: int = 64 << 20
    max_pixels: int = 150_000_000


@dataclass(frozen=True)
class Probe:
    """A picture as its header describes it; sides in pixels after EXIF orientation."""

    format: str
    """jpeg, png, webp, gif, bmp, tiff, avif or heic."""
    extension: str
    """Without a dot: jpg, png, webp, gif, bmp, tif, avif or heic."""
    width: int
    height: int


class Transform(BaseModel):
    """How a decoded picture becomes a model's input; belongs to the weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(224, ge=1)
    """Side of the square input, pixels."""
    resize: Literal["squash", "crop", "pad"] = "squash"
    """squash both sides; crop: short side, then centre; pad: long side, then grey borders."""
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    """RGB on 0..1."""
    std: tuple[_Positive, _Positive, _Positive] = _IMAGENET_STD
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"
    resize_to: int | None = Field(None, ge=1)
    """Resize to whole pixels of this side, then cut the centre of `size` out, as transformers does;
    none: what `resize` says gives `size` at once."""

    @model_validator(mode="after")
    def _the_centre_is_inside(self) -> Self:
        if self.resize_to is not None and (self.resize == "pad" or self.resize_to < self.size):
            raise ValueError(
                f"resize_to = {self.resize_to} is for squash and crop, and at least size = {self.size}"
            )
        return self

    def fingerprint(self) -> str:
        """Of the whole recipe, from bytes to the model's input."""
        settings = self.model_dump(mode="json", exclude_none=True)
        return storage.fingerprint({"decode": DECODE_RECIPE, **settings})


def probe(data: bytes, limits: Limits = Limits()) -> Probe:
    """Format and size from the header and the end marker; decodes no pixel.

    Raises:
        ImageError: any code; a file that passes may still turn out corrupt in `decode`.
    """
    name, header = _inspect(data, limits)
    decoder_of(name)
    width, height = header.width, header.height
    if header.orientation >= 5:
        width, height = height, width
    return Probe(name, EXTENSIONS[name], width, height)


def decode(data: bytes, limits: Limits = Limits(), target: int | None = None) -> Image.Image:
    """The picture as RGB, upright.

    Args:
        data: the file's bytes.
        limits: caps, held before memory is taken.
        target: pixels that the caller will resize to. A JPEG may then come at 1/2, 1/4 or
            1/8 of its size, never with a side of less than twice `target`.

    Raises:
        ImageError: any code.
    """
    return _decode(data, limits, target, lambda picture: picture)


def _decode(
    data: bytes,
    limits: Limits,
    target: int | None,
    finish: Callable[[Image.Image], Image.Image],
) -> Image.Image:
    """`decode`, and `finish` while the picture's memory is still counted."""
    name, header = _inspect(data, limits)
    _silence_pillow()
    large = header.width * header.height > _LARGE
    with _one_large_picture if large else contextlib.nullcontext():
        try:
            with decoder_of(name)(io.BytesIO(data)) as image:
                # A crafted file may show the decoder another size than the header parser found.
                _check_size(image.width, image.height, limits)
                if target is not None and name == "jpeg":
                    image.draft(None, (2 * target, 2 * target))
                image.load()
                picture = to_rgb(image, header.bits)
        except ImageError:
            raise
        # Hostile bytes make decoders raise anything (struct.error, SyntaxError, KeyError,
        # MemoryError, ...), and each of them means the same: this picture cannot be decoded.
        except Exception:  # noqa: BLE001
            raise ImageError(
                "corrupt", f"the {name} header is sound but its pixels cannot be decoded"
            ) from None
        turn = _TURNS.get(header.orientation) if name not in UPRIGHT else None
        return finish(picture if turn is None else picture.transpose(turn))


def _silence_pillow() -> None:
    """Pillow warns of odd metadata and large pictures; what matters has an error or a cap here.

    Only warnings from Pillow's own lines are ignored, and the filter is set again only if a
    `catch_warnings` block took it away: each setting makes Python repeat shown warnings.
    """
    if _PILLOW_QUIET not in warnings.filters:
        warnings.filterwarnings("ignore", module=r"PIL\.")


def _inspect(data: bytes, limits: Limits) -> tuple[str, Header]:
    if not data:
        raise ImageError("zero_bytes", "the file is empty")
    if len(data) > limits.max_bytes:
        raise ImageError(
            "too_many_bytes", f"{len(data):,} bytes; at most {limits.max_bytes:,} are read"
        )
    name, parse = identify(data)
    try:
        header = parse(data)
    except (IndexError, struct.error, OverflowError):
        raise ImageError("truncated", f"the {name} file ends inside its header") from None
    _check_size(header.width, header.height, limits)
    if not header.complete:
        raise ImageError(
            "truncated", f"the {name} file ends before its end marker or claimed length"
        )
    return name, header


def _check_size(width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise ImageError("bad_dimensions", f"{width} x {height} pixels")
    if width * height > limits.max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"{width:,} x {height:,} pixels; at most {limits.max_pixels:,} are decoded",
        )
    if max(width, height) > _LONGEST_SIDE:
        raise ImageError(
            "bad_dimensions", f"{width:,} x {height:,} pixels; a side may have {_LONGEST_SIDE:,}"
        )


def load(data: bytes, transform: Transform, limits: Limits = Limits()) -> npt.NDArray[np.uint8]:
    """Decode and resize: uint8 [3, size, size], RGB.

    Raises:
        ImageError: any code.
    """
    target = transform.resize_to or transform.size
    picture = _decode(data, limits, target, lambda whole: _resize(whole, transform))
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def fit(pixels: npt.NDArray[np.uint8], transform: Transform) -> npt.NDArray[np.uint8]:
    """Resize decoded RGB pixels, uint8 [H, W, 3], to uint8 [3, size, size]."""
    picture = _resize(Image.fromarray(pixels), transform)
    return np.ascontiguousarray(np.asarray(picture).transpose(2, 0, 1))


def _resize(picture: Image.Image, transform: Transform) -> Image.Image:
    size, method = transform.size, _FILTERS[transform.interpolation]
    width, height = picture.size
    if transform.resize_to is not None:
        return picture.resize((size, size), method, box=_centre(width, height, transform))
    if transform.resize == "squash":
        return picture.resize((size, size), method)
    if transform.resize == "crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        return picture.resize((size, size), method, box=(left, top, left + side, top + side))
    scale = size / max(width, height)
    inner = picture.resize((max(1, round(width * scale)), max(1, round(height * scale))), method)
    page = Image.new("RGB", (size, size), (128, 128, 128))
    page.paste(inner, ((size - inner.width) // 2, (size - inner.height) // 2))
    return page


def _centre(width: int, height: int, transform: Transform) -> tuple[float, float, float, float]:
    """What becomes the centre of `size` pixels when the picture is resized to `resize_to`."""
    size, side = transform.size, transform.resize_to
    assert side is not None
    inner = [side, side]
    if transform.resize == "crop":
        short = min(width, height)
        inner = [side * width // short, side * height // short]
    left, top = ((whole - size) // 2 for whole in inner)
    across, down = width / inner[0], height / inner[1]
    return left * across, top * down, (left + size) * across, (top + size) * down


def normalise(pixels: torch.Tensor, transform: Transform) -> torch.Tensor:
    """uint8 [B, 3, H, W] to float32 of the same shape and device: (x / 255 - mean) / std."""
    import torch

    mean, std = (
        torch.tensor(values, dtype=torch.float32, device=pixels.device).view(1, 3, 1, 1)
        for values in (transform.mean, transform.std)
    )
    return pixels.to(torch.float32).div_(255).sub_(mean).div_(std)
