"""A Hugging Face image processor's settings as our `Transform`, or a refusal that says why."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from pydantic import ValidationError

from pipeline.errors import ModelError
from pipeline.images import Transform
from pipeline.models.importers.checkpoint import Checkpoint

FILTERS: dict[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}
"""By Pillow's numbers."""
Statistics = tuple[float, float, float]
REQUIRED = ("size", "resample", "image_mean", "image_std")


class _Geometry(NamedTuple):
    """What becomes of a picture's sides."""

    resize: Literal["squash", "crop"]
    side: int
    """Of the square that is left."""
    resize_to: int | None = None
    """See `Transform`."""


def read_transform(checkpoint: Checkpoint, size: int) -> Transform:
    """The transform of a checkpoint whose encoder takes pictures of `size` pixels.

    Raises:
        ModelError: no image processor, or one that does what our transform cannot express.
    """
    settings = _settings(checkpoint)
    try:
        geometry, (mean, std) = _geometry(settings), _statistics(settings)
        if geometry.side != size:
            raise ValueError(f"makes pictures of {geometry.side} pixels; the encoder takes {size}")
        return Transform(
            size=size,
            resize=geometry.resize,
            resize_to=geometry.resize_to,
            mean=mean,
            std=std,
            interpolation=FILTERS[settings["resample"]],
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        why = f"gives {problem['input']!r}: {problem['msg']}"
    except ValueError as error:
        why = str(error)
    raise ModelError(f"{checkpoint.directory}: the image processor {why}")


def _settings(checkpoint: Checkpoint) -> dict[str, Any]:
    settings = checkpoint.json("preprocessor_config.json")
    if not settings:
        settings = checkpoint.json("processor_config.json").get("image_processor", {})
    if not isinstance(settings, dict) or not settings:
        raise ModelError(
            f"{checkpoint.directory} has no image processor: neither preprocessor_config.json nor "
            "processor_config.json; save it there with the processor's save_pretrained"
        )
    return settings


def _geometry(settings: dict[str, Any]) -> _Geometry:
    """How pictures become square; ValueError says what cannot be expressed."""
    if absent := [name for name in REQUIRED if name not in settings]:
        raise ValueError(f"says nothing of {', '.join(absent)}")
    if not settings.get("do_resize", True):
        raise ValueError("does not resize (do_resize = false), and pictures come in every size")
    if settings.get("do_pad"):
        raise ValueError("pads pictures (do_pad = true), which is not supported")
    if not isinstance(settings["resample"], int) or settings["resample"] not in FILTERS:
        raise ValueError(f"resizes by filter {settings['resample']}; supported: {FILTERS}")
    crop = settings.get("crop_size") if settings.get("do_center_crop") else None
    size = settings["size"]
    if isinstance(size, dict) and set(size) == {"shortest_edge"}:
        if crop is None:
            raise ValueError(f"resizes to {size} and does not crop, so pictures are not square")
        return _Geometry("crop", _side(crop), size["shortest_edge"])
    if crop is None:
        return _Geometry("squash", _side(size))
    return _Geometry("squash", _side(crop), _side(size))


def _side(size: Any) -> int:
    """224, or {"height": 224, "width": 224}."""
    if isinstance(size, dict) and set(size) == {"height", "width"}:
        if size["height"] != size["width"]:
            raise ValueError(f"makes pictures of {size}; supported: square ones")
        size = size["height"]
    if not isinstance(size, int):
        raise ValueError(f"has a size of {size}; supported: one side, height and width")
    return size


def _statistics(settings: dict[str, Any]) -> tuple[Statistics, Statistics]:
    """Mean and standard deviation on 0..1, whatever scale the processor normalises on."""
    factor = settings.get("rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0
    if not isinstance(factor, int | float) or factor <= 0:
        raise ValueError(f"rescales by {factor!r}, which is no factor")
    scale = 1.0 if abs(255 * factor - 1) < 1e-6 else 255 * factor
    if not settings.get("do_normalize", True):
        return (0.0, 0.0, 0.0), (1 / scale, 1 / scale, 1 / scale)
    return _rgb(settings, "image_mean", scale), _rgb(settings, "image_std", scale)


def _rgb(settings: dict[str, Any], key: str, scale: float) -> Statistics:
    values = settings[key]
    if (
        not isinstance(values, list)
        or len(values) != 3
        or not all(isinstance(value, int | float) for value in values)
    ):
        raise ValueError(f"has {key} = {values!r}; supported: three numbers, for RGB")
    return values[0] / scale, values[1] / scale, values[2] / scale
