"""The code of a registered model: what MLflow runs to load a captioner and to caption with it.

MLflow copies this file beside the weights and executes it there (models from code, no pickle).
Input is a DataFrame with a column `image`, or a list, or one picture; a picture is encoded bytes, a
path, or a `data:` address with base64. Output is a DataFrame: `caption`, `score` (mean token
log-probability) and `error` (a code, where a picture cannot be decoded; the caption is then empty).
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

if TYPE_CHECKING:
    from pipeline.predict import Predictor

COLUMN = "image"
BATCH = 16


class Captions:
    """Pictures in, rows out.

    A class of its own, and `predict` without type hints: MLflow looks at those of its own model
    classes, and would check the input by them instead of by the signature.
    """

    captioner: Predictor

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Caption every picture, a row each, in order."""
        del context, params
        images = pictures(model_input)
        rows = []
        for start in range(0, len(images), BATCH):
            rows += self._batch(images[start : start + BATCH])
        return pd.DataFrame(rows, columns=["caption", "score", "error"])

    def _batch(self, images: list[bytes | str]) -> list[tuple[str, float, str]]:
        import torch

        from pipeline.errors import ImageError

        rows: list[tuple[str, float, str]] = [("", float("nan"), "")] * len(images)
        pixels, places = [], []
        for place, image in enumerate(images):
            try:
                pixels.append(self.captioner.pixels(decoded(image)))
                places.append(place)
            except ImageError as error:
                rows[place] = ("", float("nan"), error.code)
        if pixels:
            captions = self.captioner.caption_pixels(torch.stack(pixels))
            for place, caption in zip(places, captions, strict=True):
                rows[place] = (caption.text, caption.score, "")
        return rows


class CaptionerModel(Captions, PythonModel):
    """A captioner behind MLflow's interface."""

    def load_context(self, context: Any) -> None:
        """Load the captioner; CAPTIONMILL_DEVICE chooses where it runs (auto)."""
        from pipeline.predict import load_directory

        directory = Path(context.artifacts["captioner"])
        device = os.environ.get("CAPTIONMILL_DEVICE", "auto")
        self.captioner = load_directory(
            directory, device=device, ref=str(directory), name="captioner"
        )


def pictures(model_input: Any) -> list[bytes | str]:
    """The pictures of whatever MLflow hands over.

    Raises:
        ValueError: no column `image` among several, or something that is no picture.
    """
    if isinstance(model_input, pd.DataFrame):
        if COLUMN not in model_input and len(model_input.columns) != 1:
            names = ", ".join(map(str, model_input.columns)) or "none"
            raise ValueError(f"the DataFrame has no column {COLUMN!r}; it has {names}")
        name = COLUMN if COLUMN in model_input else model_input.columns[0]
        model_input = model_input[name].tolist()
    elif isinstance(model_input, dict):
        if COLUMN not in model_input:
            raise ValueError(f"no key {COLUMN!r} in the input; it has {', '.join(model_input)}")
        model_input = model_input[COLUMN]
    if isinstance(model_input, str | bytes | bytearray | os.PathLike):
        model_input = [model_input]
    if not isinstance(model_input, Iterable):
        raise ValueError(f"pictures are bytes or paths, not {type(model_input).__name__}")
    return [picture for image in model_input for picture in _flat(image)]


def _flat(image: Any) -> list[bytes | str]:
    """A picture, or those of a list in a cell, which is what MLflow makes of {"image": [...]}."""
    if isinstance(image, list | tuple):
        return [_picture(one) for one in image]
    return [_picture(image)]


def _picture(image: Any) -> bytes | str:
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    raise ValueError(f"a picture is bytes or a path, not {type(image).__name__}")


def decoded(image: bytes | str) -> bytes | str:
    """A `data:` address as the bytes in it; anything else as it is."""
    if not isinstance(image, str) or not image.startswith("data:"):
        return image
    from pipeline.errors import ImageError

    try:
        return base64.b64decode(image.partition(",")[2], validate=True)
    except binascii.Error:
        raise ImageError("not_an_image", "the data: address is not base64") from None


set_model(CaptionerModel())
