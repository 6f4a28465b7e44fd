"""How a training goes about it, as settings: order of samples, schedule, augmentation, averaging."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config_file import Strict
from pipeline.sides import SIDE_WORDS


class OrderConfig(Strict):
    """The order of an epoch's samples; decides it together with the seed and the epoch alone."""

    streams: int = Field(
        64,
        ge=1,
        le=65_536,
        description="Canonical streams that batches are cut across; a number that the ranks divide "
        "lets each read its own streams front to back.",
    )
    run: int = Field(
        256, ge=1, le=100_000, description="Samples in a row of a tar that stay in one stream."
    )
    window: int = Field(
        1024, ge=1, le=1_000_000, description="Samples of a stream that are shuffled together."
    )


class ScheduleConfig(Strict):
    """The learning rate after warm-up, as a share of its peak."""

    kind: Literal["cosine", "step", "constant"] = Field(
        "cosine", description="cosine: to `floor` at the end; step: times `factor` now and then."
    )
    floor: float = Field(0.01, ge=0, le=1, description="cosine: the last share of the peak.")
    every_epochs: int = Field(3, ge=1, description="step: epochs between two steps.")
    factor: float = Field(0.8, gt=0, lt=1, description="step: what the rate is multiplied by.")


class AugmentConfig(Strict):
    """Changes to training pictures that leave their captions true.

    With cached features, those of the mirror images and of `versions` changed ones are cached too.
    """

    crop: float = Field(
        0.0, ge=0, le=0.5, description="Largest share of a picture's area that is cut away."
    )
    colour: float = Field(
        0.0, ge=0, le=0.5, description="Largest change of brightness, contrast and saturation."
    )
    versions: int = Field(
        0,
        ge=0,
        le=1000,
        description="With cached features: how many cropped and coloured versions of a picture are "
        "cached; an epoch shows one of them or, as often as each, the picture itself.",
    )
    flip: bool = Field(
        False, description="Mirror half of the pictures whose captions name no side."
    )
    flip_words: list[str] = Field(
        default_factory=lambda: list(SIDE_WORDS),
        description="Words, in any case, whose pictures are never mirrored.",
    )


class AverageConfig(Strict):
    """The mean of several epochs' weights; kept where it scores higher than the best of them."""

    count: int = Field(1, ge=1, le=100, description="Epochs; 1: none are averaged.")
    of: Literal["best", "last"] = Field(
        "best", description="Those of the highest CIDEr, or the last."
    )
