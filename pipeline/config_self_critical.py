"""Self-critical training as settings: how captions are drawn and judged, and when it must stop."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.config_file import Strict


class GuardConfig(Strict):
    """When drawn captions count as collapsed; looked at once every `window` captions."""

    window: int = Field(
        1000, ge=10, le=1_000_000, description="Drawn captions that are judged together."
    )
    min_ended: float = Field(
        0.8, ge=0, le=1, description="Least share of captions that come to their end token."
    )
    max_repeats: float = Field(
        0.1, ge=0, le=1, description="Largest share of token pairs that their caption had already."
    )
    min_length: float = Field(
        0.6, ge=0, description="Least mean length in tokens, as a multiple of the references'."
    )
    max_length: float = Field(
        1.6, gt=0, description="Largest mean length in tokens, as a multiple of the references'."
    )
    min_vocabulary: float = Field(
        0.1,
        ge=0,
        description="Fewest different tokens, as a share of those in as many references.",
    )

    @model_validator(mode="after")
    def _some_length_is_right(self) -> Self:
        if self.min_length >= self.max_length:
            raise ValueError(
                f"min_length = {self.min_length} must be below max_length = {self.max_length}"
            )
        return self


class SelfCriticalConfig(Strict):
    """The second phase of `train`: CIDEr-D itself as what is learned (Rennie et al. 2017)."""

    epochs: int = Field(10, ge=1, le=10_000, description="After those of the first phase.")
    samples: int = Field(5, ge=1, le=100, description="Captions drawn of a picture a step.")
    baseline: Literal["mean_of_others", "greedy"] = Field(
        "mean_of_others",
        description="What a caption's reward is compared with: the mean of the picture's other "
        "captions (Luo 2020), or the reward of its greedy caption (Rennie et al. 2017).",
    )
    temperature: float = Field(
        1.0, gt=0, le=10, description="Logits are divided by it, in drawing and in the gradient."
    )
    batch_size: int | None = Field(
        None, ge=1, le=65_536, description="Pictures a step; default: train.batch_size."
    )
    learning_rate: float = Field(5e-5, gt=0, le=1, description="Peak rate of the decoder.")
    encoder_learning_rate: float = Field(1e-5, gt=0, le=1)
    warmup_steps: int = Field(100, ge=0)
    dropout: bool = Field(
        False,
        description="The decoder's dropout in the pass that gives the gradient; captions are drawn "
        "without.",
    )
    guard: GuardConfig = Field(default_factory=GuardConfig)

    @model_validator(mode="after")
    def _others_to_compare_with(self) -> Self:
        if self.baseline == "mean_of_others" and self.samples < 2:
            raise ValueError(
                f"samples = {self.samples}: baseline = mean_of_others needs 2 or more; "
                "raise it, or set baseline = greedy"
            )
        return self
