"""What moves a row, and the captioner as bulk captioning sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from pipeline import storage
from pipeline.caption.marker import Marker, Model
from pipeline.config import CaptionConfig
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from pipeline.config_model import GenerationConfig
    from pipeline.images import Transform

RECIPE = 2
"""Raised by hand when this stage's code changes what a row holds."""


class Described(Protocol):
    """One picture's caption; `pipeline.decode.Caption` is one."""

    @property
    def text(self) -> str:
        """The caption."""

    @property
    def score(self) -> float:
        """Mean token log-probability."""

    @property
    def candidates(self) -> tuple[tuple[str, float], ...]:
        """(text, score), best first."""


class Captioner(Protocol):
    """What bulk captioning needs of a model; `pipeline.predict.Predictor` is one."""

    ref: str
    model_name: str
    model_version: str
    fingerprint: str

    @property
    def device(self) -> Any:
        """Where it runs, as torch names it."""

    @property
    def dtype(self) -> Any:
        """The type of number it calculates in, as torch names it."""

    @property
    def transform(self) -> Transform:
        """How pictures become its input."""

    @property
    def generation(self) -> GenerationConfig:
        """Its own search settings."""

    def caption_pixels(
        self, pixels: Tensor, beam: int | None = None, candidates: int = 1
    ) -> Sequence[Described]:
        """Caption uint8 pictures [B, 3, size, size]."""


def describe(config: CaptionConfig, captioner: Captioner) -> Marker:
    """What rows are made with by these settings and this captioner.

    Batch size, device, type of number and thread count are in it because they move the
    last bits of a score. The unit size is not: batches never cross a unit, and are padded.

    Raises:
        ConfigError: more candidates a picture than the model's own beams.
    """
    import torch

    beam = captioner.generation.beam if config.beam is None else config.beam
    try:
        config.check_beam(beam)
    except ValueError as error:
        raise ConfigError(f"caption: {error} (the model's own is {beam})") from None
    settings: dict[str, Any] = {
        "recipe": RECIPE,
        "transform": captioner.transform.fingerprint(),
        "generation": {**captioner.generation.model_dump(mode="json"), "beam": beam},
        "candidates": config.candidates,
        "format": config.format,
        "max_bytes": config.max_bytes,
        "max_pixels": config.max_pixels,
        "batch_size": config.batch_size,
        "device": str(captioner.device).partition(":")[0],
        "dtype": str(captioner.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    if config.image_column is not None:
        settings["image_column"] = config.image_column
    model = Model(
        ref=captioner.ref,
        name=captioner.model_name,
        version=captioner.model_version,
        fingerprint=captioner.fingerprint,
    )
    recipe = storage.fingerprint({"settings": settings, "model": captioner.fingerprint})
    return Marker(model=model, recipe=recipe, settings=settings)
