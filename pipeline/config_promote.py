"""What `promote` asks of a candidate, as settings: the gain, its evidence, and the guards."""

from __future__ import annotations

from pydantic import Field

from pipeline.config_file import Strict


class GuardsConfig(Strict):
    """What a candidate with a gain must not have lost; each limit is beside the champion."""

    min_length: float = Field(
        0.75, ge=0, le=1, description="Fewest words a caption, as a share of the champion's."
    )
    max_length: float = Field(
        1.35, ge=1, description="Most words a caption, as a multiple of the champion's."
    )
    min_vocabulary: float = Field(
        0.7, ge=0, le=1, description="Fewest different words, as a share of the champion's."
    )
    max_repeated: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of captions that say something twice, above the champion's at most.",
    )
    max_unfinished: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of captions cut at their longest length, above the champion's at most.",
    )
    max_shared: float = Field(
        0.15,
        ge=0,
        le=1,
        description="Share of pictures whose caption another picture has too, above the champion's at "
        "most.",
    )
    max_misplaced: float = Field(
        0.75,
        ge=0,
        le=1,
        description="CIDEr of the captions against other pictures' references, as a share of their "
        "CIDEr: near 1, the model does not look at the pictures.",
    )
    min_speed: float = Field(
        0.5, ge=0, description="Fewest pictures a second, as a share of the champion's."
    )
    max_slice_loss: float = Field(
        5.0, ge=0, description="CIDEr (x100 scale) that a slice may lose at most."
    )


class PromoteConfig(Strict):
    """`promote`: a candidate into the registry, and the champion's chair if it is better."""

    name: str = Field("captioner", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    min_gain: float = Field(
        0.0, description="CIDEr (x100 scale) by which the candidate must be better."
    )
    max_p_value: float = Field(
        0.05,
        gt=0,
        le=1,
        description="Largest p-value of the gain by paired bootstrap over the images; 1: any.",
    )
    resamples: int = Field(10_000, ge=100, le=1_000_000, description="Of the bootstrap.")
    evaluation_set: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{16}$",
        description="Fingerprint of the evaluation set. Default: the one of the first promotion. "
        "Name that of the present split to change to it.",
    )
    new_signature: bool = Field(
        False, description="Compare although the champion was promoted by other metrics."
    )
    slice_by: str | None = Field(
        None, description="Column of `meta` whose values are the slices; none: no slices."
    )
    min_slice: int = Field(30, ge=1, description="Smaller slices are shown, not judged.")
    guards: GuardsConfig = Field(default_factory=GuardsConfig)
    require_approval: bool = Field(
        False, description="Leave a better candidate as challenger until `captionmill approve`."
    )
