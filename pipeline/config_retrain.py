"""When a retraining is worth its while, and what it starts from, as settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config_file import Strict


class DriftConfig(Strict):
    """How far new captions and bulk runs may be from what the champion was judged on."""

    max_unknown_words: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of the words of new training captions that the champion never learned.",
    )
    max_confidence_loss: float = Field(
        0.3,
        ge=0,
        description="Mean token log-probability that a bulk run may be below the champion's evaluation.",
    )
    min_length: float = Field(
        0.75, ge=0, le=1, description="Fewest words a caption, as a share of the evaluation's."
    )
    max_length: float = Field(
        1.35, ge=1, description="Most words a caption, as a multiple of the evaluation's."
    )
    min_vocabulary: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Fewest different words in as many captions, as a share of the evaluation's.",
    )


class RetrainConfig(Strict):
    """`retrain`: what a training starts from, and what counts as drift."""

    start: Literal["fresh", "champion"] = Field(
        "fresh",
        description="champion: from the champion's weights and with its tokenizer, where there is one.",
    )
    drift: DriftConfig = Field(default_factory=DriftConfig)
