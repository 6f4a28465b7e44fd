"""The settings: one strict model a stage, read from YAML, overridden by `a.b=value`.

Knows no stage's code. An unknown key, a wrong type or a value out of bounds is a
`ConfigError` that names the key, the value and what is allowed, before any work is done.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from pipeline.config_file import apply_override, explain, read_yaml
from pipeline.errors import ConfigError


class Strict(BaseModel):
    """A frozen model that refuses keys it does not know, and numbers that JSON has not."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Source(Strict):
    """One source of pictures and captions for `shard`."""

    kind: Literal["coco", "csv", "jsonl"] = Field(
        "coco", description="coco: a COCO captions JSON; csv, jsonl: rows of image, caption, ..."
    )
    annotations: str = Field(description="The captions file, relative to `data_root`.")
    images: list[str] = Field(
        default_factory=list,
        description="Folders searched in order for each picture; default: the file's own folder.",
    )
    split: str | None = Field(
        None, description="Split of these samples; csv and jsonl may have a `split` column instead."
    )
    name: str | None = Field(None, description="Name in sample ids; default: the file's stem.")

    @field_validator("images", mode="before")
    @classmethod
    def _one_folder_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class ShardConfig(Strict):
    """`shard`: pictures and captions into WebDataset tars."""

    sources: list[Source] = Field(default_factory=list)
    shard_size: int = Field(1000, ge=1, le=100_000, description="Samples a tar, about.")
    seed: int = Field(
        0, ge=0, description="Decides the order of samples and the held-out pictures."
    )
    holdout: dict[str, float] = Field(
        default_factory=dict,
        description="Share of the pictures without a split that goes to each named split; the rest is train.",
    )
    check: Literal["header", "decode"] = Field(
        "header", description="header: header and end marker; decode: decode every picture."
    )
    max_bad_fraction: float = Field(0.01, ge=0, le=1)


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
        description="A torchvision weights name (IMAGENET1K_V1, DEFAULT), for timm DEFAULT or a "
        "tag, a file (.pth, .pt, .safetensors) below `data_root`, or none.",
    )
    train: Literal["none", "all"] | StrictInt = Field(
        "none", description="Which stages are fine-tuned: none, all, or the last N."
    )
    freeze_batch_norm: bool = Field(
        True, description="Keep batch statistics fixed while fine-tuning."
    )
    patch: int | None = Field(None, ge=1, le=256, description="vit: side of a patch, pixels; 16.")
    depth: int | None = Field(None, ge=1, le=128, description="vit: blocks; 12.")
    width: int | None = Field(None, ge=8, le=8192, description="vit: width of a token; 384.")
    heads: int | None = Field(None, ge=1, le=128, description="vit: they divide the width; 6.")
    mlp: int | None = Field(None, ge=8, le=65_536, description="vit: MLP width; 4 x `width`.")
    dropout: float | None = Field(None, ge=0, lt=1, description="vit, while training; 0.")

    @field_validator("weights", mode="before")
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
        if isinstance(sizes["width"], int):
            sizes.setdefault("mlp", 4 * sizes["width"])
        return sizes

    @model_validator(mode="after")
    def _only_a_vit_has_sizes(self) -> Self:
        sizes = ("patch", "depth", "width", "heads", "mlp", "dropout")
        if self.name != "vit":
            if given := [key for key in sizes if getattr(self, key) is not None]:
                raise ValueError(f"{', '.join(given)}: only of name = vit, not of {self.name}")
            return self
        assert self.width is not None
        assert self.heads is not None
        if self.width % self.heads:
            raise ValueError(f"heads = {self.heads} must divide width = {self.width}")
        if self.weights is not None and not is_weights_file(self.weights):
            raise ValueError(f"weights = {self.weights!r}: vit has no named weights, only a file")
        return self


def _kind(default: str) -> Discriminator:
    """Which of several models a section is, by its `kind`."""

    def chosen(section: Any) -> Any:
        if isinstance(section, dict):
            return section.get("kind", default)
        return getattr(section, "kind", default)

    return Discriminator(chosen)


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
        description="A GPT-2 checkpoint's directory to start from, of these sizes and with its own "
        "tokenizer; relative to `data_root`.",
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads = {self.heads} must divide width = {self.width}")
        return self


DecoderConfig = Annotated[
    Annotated[LSTMConfig, Tag("lstm")] | Annotated[GPTConfig, Tag("gpt")], _kind("lstm")
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
        description="A tokenizer.json, or vocab.json beside merges.txt; relative to `data_root`."
    )


TokenizerConfig = Annotated[
    Annotated[WordTokenizerConfig, Tag("word")]
    | Annotated[BPETokenizerConfig, Tag("bpe")]
    | Annotated[FileTokenizerConfig, Tag("file")],
    _kind("word"),
]
"""Captions to token ids."""


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

    @model_validator(mode="after")
    def _room_for_the_end(self) -> Self:
        if self.min_len >= self.max_len:
            raise ValueError(f"min_len = {self.min_len} must be below max_len = {self.max_len}")
        return self


class TrainConfig(Strict):
    """`train`: shards into a checkpoint."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    decoder: DecoderConfig = Field(default_factory=LSTMConfig)
    transform: TransformConfig = Field(default_factory=TransformConfig)
    tokenizer: TokenizerConfig = Field(default_factory=WordTokenizerConfig)
    generation: GenerationConfig = Field(default_factory=GenerationConfig)
    epochs: int = Field(10, ge=1, le=10_000)
    batch_size: int = Field(32, ge=1, le=65_536, description="Pictures a step.")
    captions_per_image: int = Field(
        5, ge=1, le=100, description="Captions of a picture a step, at most."
    )
    learning_rate: float = Field(5e-4, gt=0, le=1, description="Peak rate of the decoder.")
    encoder_learning_rate: float = Field(1e-4, gt=0, le=1)
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(0.0, ge=0, le=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    attention_penalty: float = Field(
        1.0,
        ge=0,
        description="Weight of the doubly stochastic attention term (Xu et al. 2015, eq. 14); "
        "of the LSTM alone, 0 elsewhere.",
    )
    clip_norm: float = Field(5.0, gt=0)
    cache_features: bool = Field(
        True, description="Keep a wholly frozen encoder's features on disk, in half precision."
    )
    validation_split: str = "val"
    validation_images: int | None = Field(
        None, ge=1, description="Score only the first N each epoch."
    )
    validation_beam: int = Field(1, ge=1, le=64)
    early_stop: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a better validation CIDEr."
    )
    checkpoint_seconds: float = Field(120, gt=0, description="Between checkpoints inside an epoch.")
    keep_checkpoints: int = Field(2, ge=1)
    max_caption_tokens: int = Field(
        40, ge=4, le=512, description="Longer training captions are cut."
    )
    seed: int = Field(0, ge=0, lt=1 << 32)

    @model_validator(mode="before")
    @classmethod
    def _other_decoders_have_no_attention_penalty(cls, tree: Any) -> Any:
        if not isinstance(tree, dict) or "attention_penalty" in tree:
            return tree
        decoder = tree.get("decoder")
        kind = decoder.get("kind") if isinstance(decoder, dict) else getattr(decoder, "kind", None)
        return tree if kind in (None, "lstm") else {**tree, "attention_penalty": 0.0}

    @model_validator(mode="after")
    def _patches_fill_the_picture(self) -> Self:
        size, patch = self.transform.size or 224, self.encoder.patch or 1
        if size % patch:
            raise ValueError(
                f"transform.size = {size} must be a multiple of encoder.patch = {patch}"
            )
        return self

    @model_validator(mode="after")
    def _settings_fit_the_decoder(self) -> Self:
        if isinstance(self.decoder, LSTMConfig):
            return self
        if self.attention_penalty > 0:
            raise ValueError(
                f"attention_penalty = {self.attention_penalty} is for the lstm decoder; "
                f"set it to 0 for {self.decoder.kind}"
            )
        longest = max(self.max_caption_tokens, self.generation.max_len)
        if longest > self.decoder.positions:
            raise ValueError(
                f"decoder.positions = {self.decoder.positions} is too few for max_caption_tokens = "
                f"{self.max_caption_tokens} and generation.max_len = {self.generation.max_len}"
            )
        return self


class ScoreConfig(Strict):
    """`score`: a checkpoint and a split into a score card."""

    split: str = Field("val", description="The split that is captioned and scored.")
    batch_size: int = Field(32, ge=1, le=65_536)
    beam: int | None = Field(None, ge=1, le=64, description="Default: the model's own.")
    shuffle_images: bool = Field(
        False,
        description="Control: caption each picture but score it against another's references.",
    )
    document_frequencies: str | None = Field(
        None,
        description="CIDEr's stored table, a file that `captionmill document-frequencies` made; "
        "relative to `data_root`. None: the references' own, as coco-caption.",
    )
    meteor: bool = Field(
        False, description="METEOR as well; needs Java and pip install 'captionmill[meteor]'."
    )


class PromoteConfig(Strict):
    """`promote`: a candidate into the registry, and the champion's chair if it is better."""

    name: str = Field("captioner", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    min_gain: float = Field(
        0.0, description="CIDEr (x100 scale) by which the candidate must be better."
    )


class CaptionConfig(Strict):
    """`caption`: an archive into a table of captions."""

    model: str = Field("captioner@champion", description="NAME@alias, NAME/version or a directory.")
    unit_size: int = Field(256, ge=1, le=100_000, description="Pictures a unit (one Parquet part).")
    batch_size: int = Field(16, ge=1, le=4096)
    beam: int | None = Field(None, ge=1, le=64, description="Default: the model's own.")
    candidates: int = Field(1, ge=1, le=64, description="Captions kept a picture, best first.")
    max_bytes: int = Field(64 << 20, ge=1, description="Larger files become rows with an error.")
    max_pixels: int = Field(150_000_000, ge=1, le=178_000_000)


class DemoConfig(Strict):
    """`demo`: the generated data set."""

    train_images: int = Field(2000, ge=1)
    val_images: int = Field(200, ge=1)
    test_images: int = Field(200, ge=1)
    archive_images: int = Field(100, ge=1, description="Pictures without captions, for `caption`.")
    image_size: int = Field(96, ge=32, le=1024)
    seed: int = Field(0, ge=0)


class Config(Strict):
    """All settings of a project; one section a stage."""

    data_root: str = Field(".", description="Relative input paths of the sections start here.")
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="auto (CUDA, MPS or CPU), cpu, cuda, cuda:N or mps.",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads for torch; default: its own choice."
    )
    demo: DemoConfig = Field(default_factory=DemoConfig)
    shard: ShardConfig = Field(default_factory=ShardConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    score: ScoreConfig = Field(default_factory=ScoreConfig)
    promote: PromoteConfig = Field(default_factory=PromoteConfig)
    caption: CaptionConfig = Field(default_factory=CaptionConfig)

    def input_path(self, path: str) -> Path:
        """`path` as given if absolute (or from ~), else below `data_root`."""
        return Path(self.data_root).expanduser() / Path(path).expanduser()

    def to_yaml(self) -> str:
        """The resolved settings as YAML that `load_config` reads back to an equal value."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def load_config(
    path: str | os.PathLike[str] | None = None, overrides: list[str] | None = None
) -> Config:
    """The validated settings of a YAML file (none: all defaults) with `a.b=value` overrides.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or value is not allowed.
    """
    tree = read_yaml(Path(path)) if path is not None else {}
    for override in overrides or []:
        apply_override(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        origin = str(path) if path is not None else "the settings"
        raise ConfigError(explain(error, Config, origin)) from None
