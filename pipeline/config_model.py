"""What a captioner is made of, as settings: transform, encoder, decoder, tokenizer, search."""

from __future__ import annotations

from contextlib import suppress
from difflib import get_close_matches
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StrictInt,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from pipeline.config_file import Strict, chosen_by_kind
from pipeline.sides import SIDE_WORDS

_Positive = Annotated[float, Field(gt=0)]


class TransformConfig(Strict):
    """How a decoded picture becomes the model's input; belongs to the weights."""

    size: int | None = Field(
        None,
        ge=16,
        le=1024,
        description="Side of the square input, pixels; default: that of the named weights, else 224.",
    )
    resize: Literal["squash", "crop", "pad"] = Field(
        "squash",
        description="squash: both sides to size; crop: short side then centre; pad: long side, then grey borders.",
    )
    mean: tuple[float, float, float] | None = Field(
        None,
        description="RGB on 0..1; default: what belongs to the named weights, else ImageNet's.",
    )
    std: tuple[_Positive, _Positive, _Positive] | None = Field(
        None, description="As mean: what pixels on 0..1, less mean, are divided by."
    )
    interpolation: Literal["bicubic", "bilinear"] | None = Field(
        None, description="Default: that of the named weights, else bicubic."
    )


def is_weights_file(weights: str) -> bool:
    """Whether a `weights` setting is a path rather than a torchvision weights name."""
    return "/" in weights or weights.endswith((".pth", ".pt", ".safetensors"))


class EncoderConfig(Strict):
    """The picture encoder."""

    name: str = Field(
        "resnet18",
        description="A torchvision ResNet, ResNeXt, Wide ResNet, RegNet, EfficientNet, ConvNeXt, "
        "MobileNet, Swin or ViT by its name there; vit: one of any size; timm:<model>.",
    )
    weights: str | None = Field(
        None,
        min_length=1,
        description="A torchvision weights name (IMAGENET1K_V1, DEFAULT), for timm DEFAULT or a "
        "tag, a file (.pth, .pt, .safetensors) below `data_root`, or none.",
    )
    train: Literal["none", "all"] | Annotated[StrictInt, Field(ge=0)] = Field(
        "none", description="Which stages are fine-tuned: none, all, or the last N."
    )
    freeze_batch_norm: bool = Field(
        True, description="Keep batch statistics fixed while fine-tuning."
    )
    padding: Literal["same"] | None = Field(
        None,
        description="same: weights of a torchvision CNN that were trained in TensorFlow, whose "
        "padding differs where a stride is above 1; none: torch's.",
    )
    levels: Literal["all"] | None = Field(
        None,
        description="all: tokens of a torchvision CNN with train: none carry the picture's colours "
        "and every finer grid too, averaged over their places; none: its last stage.",
    )
    patch: int | None = Field(None, ge=1, le=256, description="vit: side of a patch, pixels; 16.")
    depth: int | None = Field(None, ge=1, le=128, description="vit: blocks; 12.")
    width: int | None = Field(None, ge=8, le=8192, description="vit: width of a token; 384.")
    heads: int | None = Field(None, ge=1, le=128, description="vit: they divide the width; 6.")
    mlp: int | None = Field(None, ge=8, le=65_536, description="vit: MLP width; 4 x `width`.")
    dropout: float | None = Field(None, ge=0, lt=1, description="vit, while training; 0.")

    @field_validator("name", mode="before")
    @classmethod
    def _a_colon_and_a_space_are_a_mapping(cls, value: Any) -> Any:
        if isinstance(value, dict) and list(value) == ["timm"]:
            raise ValueError(
                f'write it without a space, or in quotes: "timm:{value["timm"] or "<model>"}"'
            )
        return value

    @field_validator("weights", "padding", "levels", mode="before")
    @classmethod
    def _none_is_a_word_too(cls, value: Any) -> Any:
        return None if value == "none" else value

    @model_validator(mode="before")
    @classmethod
    def _sizes_of_a_vit(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or tree.get("name") != "vit":
            return tree
        given = {key: value for key, value in tree.items() if value is not None}
        sizes = {"patch": 16, "depth": 12, "width": 384, "heads": 6, "dropout": 0.0, **given}
        # '384' and 384.0 are whole numbers to pydantic too; what is none, it refuses by name.
        with suppress(TypeError, ValueError, OverflowError):
            sizes.setdefault("mlp", 4 * int(float(sizes["width"])))
        return sizes

    @field_validator("train", mode="after")
    @classmethod
    def _no_stage_is_none(cls, value: Literal["none", "all"] | int) -> Literal["none", "all"] | int:
        return "none" if value == 0 else value

    @model_validator(mode="after")
    def _levels_are_frozen(self) -> Self:
        if self.levels is not None and self.name.startswith(("vit", "swin", "timm:")):
            raise ValueError(
                f"levels = {self.levels} is for torchvision's convolutional networks, not for {self.name}"
            )
        if self.levels is not None and self.train != "none":
            raise ValueError(
                f"levels = {self.levels} needs train = none, not {self.train}: what is trained sees "
                "the last stage alone"
            )
        return self

    @model_validator(mode="after")
    def _only_a_vit_has_sizes(self) -> Self:
        sizes = ("patch", "depth", "width", "heads", "mlp", "dropout")
        if self.name != "vit":
            if given := [key for key in sizes if getattr(self, key) is not None]:
                if get_close_matches(self.name.lower(), ["vit"]):
                    raise ValueError(f"name = {self.name!r}: did you mean vit?")
                raise ValueError(f"{', '.join(given)}: only of name = vit, not of {self.name}")
            return self
        assert self.width is not None
        assert self.heads is not None
        if self.width % self.heads:
            raise ValueError(f"heads = {self.heads} must divide width = {self.width}")
        if self.weights is not None and not is_weights_file(self.weights):
            raise ValueError(f"weights = {self.weights!r}: vit has no named weights, only a file")
        return self


class LSTMConfig(Strict):
    """The LSTM decoder with soft attention."""

    kind: Literal["lstm"] = "lstm"
    width: int = Field(512, ge=8, le=8192, description="LSTM state width.")
    embedding: int = Field(512, ge=8, le=8192, description="Word embedding width.")
    attention: int = Field(512, ge=8, le=8192, description="Width of the additive attention.")
    dropout: float = Field(0.5, ge=0, lt=1)


class GPTConfig(Strict):
    """The transformer decoder with cross-attention."""

    kind: Literal["gpt"] = "gpt"
    layers: int = Field(6, ge=1, le=96)
    width: int = Field(512, ge=8, le=8192, description="Width of a token, embedding and state.")
    heads: int = Field(8, ge=1, le=128, description="Attention heads; they divide the width.")
    mlp: int | None = Field(
        None, ge=8, le=65_536, description="Width inside the feed-forward part; default: 4 * width."
    )
    positions: int = Field(128, ge=4, le=4096, description="Most tokens a caption can ever have.")
    dropout: float = Field(0.1, ge=0, lt=1)
    weights: str | None = Field(
        None,
        min_length=1,
        description="A GPT-2 checkpoint's directory to start from, of these sizes and with its own "
        "tokenizer; relative to `data_root`.",
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads = {self.heads} must divide width = {self.width}")
        return self


DecoderConfig = Annotated[
    Annotated[LSTMConfig, Tag("lstm")] | Annotated[GPTConfig, Tag("gpt")], chosen_by_kind("lstm")
]
"""The caption decoder."""


class WordTokenizerConfig(Strict):
    """Lower-cased words of the training captions."""

    kind: Literal["word"] = "word"
    min_count: int = Field(5, ge=1, description="Rarer words become the unknown word.")
    max_words: int = Field(50_000, ge=8, description="Most words kept, the frequent first.")


class BPETokenizerConfig(Strict):
    """Byte-level byte-pair encoding, learned from the training captions."""

    kind: Literal["bpe"] = "bpe"
    vocabulary: int = Field(10_000, ge=260, le=1_000_000, description="Most tokens, all counted.")
    lowercase: bool = Field(True, description="Lower-case captions, as the metrics do.")


class FileTokenizerConfig(Strict):
    """A tokenizer that exists already."""

    kind: Literal["file"] = "file"
    path: str = Field(
        min_length=1,
        description="A tokenizer.json, or vocab.json beside merges.txt; relative to `data_root`.",
    )


TokenizerConfig = Annotated[
    Annotated[WordTokenizerConfig, Tag("word")]
    | Annotated[BPETokenizerConfig, Tag("bpe")]
    | Annotated[FileTokenizerConfig, Tag("file")],
    chosen_by_kind("word"),
]
"""Captions to token ids."""


class ConsensusConfig(Strict):
    """Which of the captions that beams find is taken: see `predict.consensus`."""

    samples: int = Field(
        40, ge=0, le=1000, description="Random captions that the found ones are compared with."
    )
    temperature: float = Field(0.8, ge=0.05, le=10, description="Of the random captions.")
    likelihood: float = Field(
        0.5,
        ge=0,
        le=100,
        description="Weight of a caption's mean token log-probability beside its CIDEr-D (0 to 10).",
    )
    views: Annotated[StrictInt, Field(ge=1, le=8)] = Field(
        1,
        description="Captions are found and drawn for so many views of the picture: the whole, its "
        "mirror image, the middle, its mirror image, and the corners.",
    )
    flip_words: list[str] = Field(
        default_factory=lambda: list(SIDE_WORDS),
        description="Captions of mirrored views that have one of these words, in any case, count "
        "for nothing: there it says the opposite.",
    )
    photos: int = Field(
        0,
        ge=0,
        le=16_384,
        description="The found ones are also compared with what people said of the training photos,"
        " at most so many, each as much as it tells about this picture; they become part of the"
        " model, with a square of numbers of that side.",
    )
    photos_weight: float = Field(
        4.0, ge=0, le=100, description="Weight of those beside the random captions."
    )
    photos_ridge: float = Field(
        0.3,
        ge=0.01,
        le=1000,
        description="The larger, the less a single photo tells: the ridge of the regression.",
    )

    @model_validator(mode="after")
    def _something_to_compare_with(self) -> Self:
        if not (self.samples or (self.photos and self.photos_weight)):
            raise ValueError(
                "samples = 0 with photos = 0 or photos_weight = 0 leave nothing to agree with"
            )
        return self


class GenerationConfig(Strict):
    """How captions are searched for; travels with the model."""

    beam: int = Field(3, ge=1, le=64)
    max_len: int = Field(30, ge=2, le=512, description="Most tokens a caption, end token included.")
    min_len: int = Field(1, ge=0, le=512, description="Fewest tokens before the end token.")
    length_penalty: float = Field(
        1.0, ge=0, le=4, description="Beam score = sum of log-probabilities / tokens ** this."
    )
    no_repeat_ngram: int = Field(
        0,
        ge=0,
        le=20,
        description="No run of so many tokens occurs twice in a caption; 0: allowed.",
    )
    repetition_penalty: float = Field(
        1.0, gt=0, le=10, description="Above 1 makes tokens that occurred already less likely."
    )
    banned_words: tuple[str, ...] = Field(
        (), description="Never written; with BPE as the tokens that spell them."
    )
    consensus: ConsensusConfig | None = Field(
        None,
        description="Take the caption that agrees best with random ones, or with those of training"
        " photos, not the likeliest; better captions, with random ones many times slower."
        " {}: with the usual settings.",
    )

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A model that has no consensus is described, and so named, as before there was one.
        value: dict[str, Any] = serialize(self)
        if self.consensus is None:
            value.pop("consensus", None)
        return value

    @model_validator(mode="after")
    def _room_for_the_end(self) -> Self:
        if self.min_len >= self.max_len:
            raise ValueError(f"min_len = {self.min_len} must be below max_len = {self.max_len}")
        return self
