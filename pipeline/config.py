"""The settings: one strict model a stage, read from YAML, overridden by `a.b=value`.

Knows no stage's code. An unknown key, a wrong type or a value out of bounds is a
`ConfigError` that names the key, the value and what is allowed, before any work is done.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from pipeline.config_file import Strict, apply_override, explain, read_yaml
from pipeline.config_model import (
    DecoderConfig,
    EncoderConfig,
    GenerationConfig,
    LSTMConfig,
    TokenizerConfig,
    TransformConfig,
    WordTokenizerConfig,
)
from pipeline.config_promote import PromoteConfig
from pipeline.config_recipe import AugmentConfig, AverageConfig, OrderConfig, ScheduleConfig
from pipeline.config_retrain import RetrainConfig
from pipeline.config_self_critical import SelfCriticalConfig
from pipeline.config_sources import Source
from pipeline.errors import ConfigError
from pipeline.remote import Location, is_url, location

Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"],
    Field(
        description="Type of number the model calculates in; bfloat16 for newer CPUs and GPUs, "
        "float16 for GPUs. Captions may differ in a few words."
    ),
]


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
    store: str | None = Field(
        None,
        description="A directory or s3://bucket/prefix that finished sets are copied to, and that "
        "train and score read them from; none: the work directory alone.",
    )


class TrainConfig(Strict):
    """`train`: shards into a checkpoint."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    decoder: DecoderConfig = Field(default_factory=LSTMConfig)
    transform: TransformConfig = Field(default_factory=TransformConfig)
    tokenizer: TokenizerConfig = Field(default_factory=WordTokenizerConfig)
    generation: GenerationConfig = Field(default_factory=GenerationConfig)
    start: str | None = Field(
        None,
        description="A captioner's directory to go on from: its weights, and its tokenizer instead of "
        "`tokenizer`; relative to `data_root`. `retrain.start` fills it in.",
    )
    epochs: int = Field(10, ge=1, le=10_000)
    batch_size: int = Field(
        32, ge=1, le=65_536, description="Pictures a step, of all ranks together."
    )
    devices: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        1,
        description="Devices of this machine that train together, a process each: 1, a number, or "
        "auto (all CUDA devices). The result is that of one, but for the last bits and dropout.",
    )
    accumulate: int = Field(
        1, ge=1, le=1024, description="Pieces a rank's part of a batch goes through the model in."
    )
    order: OrderConfig = Field(default_factory=OrderConfig)
    captions_per_image: int = Field(
        5, ge=1, le=100, description="Captions of a picture a step, at most."
    )
    learning_rate: float = Field(5e-4, gt=0, le=1, description="Peak rate of the decoder.")
    encoder_learning_rate: float = Field(
        1e-4, gt=0, le=1, description="Peak rate of the encoder's trained stages."
    )
    encoder_frozen_epochs: int = Field(
        0, ge=0, description="First epochs in which those stages stay as they are."
    )
    warmup_steps: int = Field(100, ge=0, description="Steps of a linear rise to the peak.")
    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    weight_decay: float = Field(0.0, ge=0, le=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    attention_penalty: float = Field(
        1.0,
        ge=0,
        description="Weight of the doubly stochastic attention term (Xu et al. 2015, eq. 14); "
        "of the LSTM alone, 0 elsewhere.",
    )
    clip_norm: float = Field(5.0, gt=0, description="Largest gradient norm; longer ones are cut.")
    ema: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Decay of a moving average of the weights, which is then what is validated and kept.",
    )
    average: AverageConfig = Field(default_factory=AverageConfig)
    augment: AugmentConfig = Field(default_factory=AugmentConfig)
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="Of the forward pass (autocast); weights stay fp32. fp16 needs CUDA."
    )
    compile: bool = Field(
        False,
        description="torch.compile of the first phase's steps; a minute at the start, faster after.",
    )
    cache_features: bool = Field(
        True, description="Keep a wholly frozen encoder's features on disk, in half precision."
    )
    validation_split: str = "val"
    validation_images: int | None = Field(
        None, ge=1, description="Score only the first N each epoch."
    )
    allow_overlap: bool = Field(
        False, description="Train although photos of the validation split are training photos too."
    )
    validation_beam: int = Field(1, ge=1, le=64)
    early_stop: int | None = Field(
        None, ge=1, description="Stop after this many epochs without a better validation CIDEr."
    )
    self_critical: SelfCriticalConfig | None = Field(
        None, description="A second phase that learns CIDEr-D itself; null: none."
    )
    checkpoint_seconds: float = Field(120, gt=0, description="Between checkpoints inside an epoch.")
    keep_checkpoints: int = Field(
        2, ge=1, description="Newest checkpoints that stay, beside those of the best epochs."
    )
    workers: int = Field(
        4, ge=1, le=256, description="Threads a rank that read and decode batches ahead."
    )
    sample_captions: int = Field(
        8, ge=0, le=1000, description="Validation pictures whose captions are kept every epoch."
    )
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
    def _cached_features_have_versions(self) -> Self:
        cached = self.encoder.train == "none" and self.cache_features
        changed, versions = self.augment.crop or self.augment.colour, self.augment.versions
        if cached and changed and not versions:
            raise ValueError(
                "augment.crop and augment.colour change pictures, whose features are cached; set "
                "augment.versions to the number of changed versions to cache (4, say), or "
                "cache_features = false"
            )
        if versions and not (cached and changed):
            why = "crop and colour are both 0" if cached else "no features are cached here"
            raise ValueError(
                f"augment.versions = {versions}, but {why}: versions are cropped or coloured pictures "
                "whose features are cached; set it to 0, or "
                + ("augment.crop or augment.colour" if cached else "encoder.train = none")
            )
        return self

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
    dtype: Dtype = "float32"
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


class CaptionConfig(Strict):
    """`caption`: an archive into a table of captions."""

    model: str = Field(
        "captioner@champion", min_length=1, description="NAME@alias, NAME/version or a directory."
    )
    unit_size: int = Field(256, ge=1, le=100_000, description="Pictures a unit (one Parquet part).")
    batch_size: int = Field(16, ge=1, le=4096)
    beam: int | None = Field(None, ge=1, le=64, description="Default: the model's own.")
    consensus: bool = Field(
        True,
        description="false: the likeliest of the captions that beams find, also where the model has"
        " a consensus, which costs many times the search.",
    )
    dtype: Dtype = "float32"
    candidates: int = Field(1, ge=1, le=64, description="Captions kept a picture, best first.")
    format: Literal["raw", "sentence"] = Field(
        "raw",
        description="How a caption is written: raw, as the model's tokenizer writes it; sentence, "
        "with a capital, a full stop and no unknown-word marks.",
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        "auto",
        description="Processes that caption, each with a model of its own; auto: one a GPU, or one a "
        "group of cores (`threads` each). Rows are the same whatever their number.",
    )
    hang_seconds: float = Field(
        900,
        gt=0,
        description="A process that takes longer over a batch, or over a picture to read and decode, "
        "is ended; the picture that it hangs at becomes a row with an error.",
    )
    engine: Literal["local", "ray"] = Field(
        "local",
        description="Who captions: local, processes on this machine; ray, actors on a Ray cluster "
        "(pip install 'captionmill[ray]'). Rows are the same.",
    )
    ray_address: str | None = Field(
        None,
        min_length=1,
        description="Of an existing Ray cluster, HOST:PORT or auto; none: RAY_ADDRESS, or a cluster on "
        "this machine for the length of the run.",
    )
    ray_gpus: float = Field(
        1.0,
        gt=0,
        le=16,
        description="GPUs that a worker takes on a Ray cluster; 0.5: two share one.",
    )
    max_bytes: int = Field(64 << 20, ge=1, description="Larger files become rows with an error.")
    max_pixels: int = Field(150_000_000, ge=1, le=178_000_000)
    image_column: str | None = Field(
        None,
        description="Parquet, JSON Lines: column of the pictures' bytes or paths; default: told by"
        " name and type.",
    )
    name_column: str | None = Field(
        None, description="Parquet with bytes: column of the members' names; default: likewise."
    )
    root: str | None = Field(
        None,
        description="Lists and columns of paths: relative paths start here, and nothing outside is"
        " read; default: they start at the list and may lead anywhere.",
    )
    profile: bool = Field(
        False, description="Write where the time went below the table: _profile.json and .svg."
    )

    @model_validator(mode="after")
    def _candidates_are_found_by_beams(self) -> Self:
        if self.beam is not None:
            self.check_beam(self.beam)
        return self

    def content(self) -> dict[str, Any]:
        """The settings that decide what a table holds."""
        who = {"workers", "engine", "ray_address", "ray_gpus", "hang_seconds", "profile"}
        return self.model_dump(exclude=who)

    def check_beam(self, beam: int) -> None:
        """Raise ValueError where more candidates are wanted than `beam` beams can find."""
        if self.candidates > beam:
            raise ValueError(
                f"candidates = {self.candidates}, but a beam of {beam} finds no more than {beam}; "
                f"set beam = {self.candidates}"
            )


class DemoConfig(Strict):
    """`demo`: the generated data set."""

    train_images: int = Field(2000, ge=1)
    val_images: int = Field(200, ge=1)
    test_images: int = Field(200, ge=1)
    archive_images: int = Field(100, ge=1, description="Pictures without captions, for `caption`.")
    image_size: int = Field(96, ge=32, le=1024)
    seed: int = Field(0, ge=0)


def _is_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ValueError("input should be auto, cpu, mps, cuda or cuda:N")
    return name


class Config(Strict):
    """All settings of a project; one section a stage."""

    data_root: str = Field(".", description="Relative input paths of the sections start here.")
    device: Annotated[str, AfterValidator(_is_device)] = Field(
        "auto", description="auto (CUDA, MPS or CPU), cpu, cuda, cuda:N or mps."
    )
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="CPU threads for torch, of each rank and captioning process; default: its own choice, "
        "ranks share the cores, and captioning processes take an eighth of them each (at least one).",
    )
    demo: DemoConfig = Field(default_factory=DemoConfig)
    shard: ShardConfig = Field(default_factory=ShardConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    score: ScoreConfig = Field(default_factory=ScoreConfig)
    promote: PromoteConfig = Field(default_factory=PromoteConfig)
    retrain: RetrainConfig = Field(default_factory=RetrainConfig)
    caption: CaptionConfig = Field(default_factory=CaptionConfig)

    def input_path(self, path: str) -> Path:
        """`path` as given if absolute (or from ~), else below `data_root`."""
        return Path(self.data_root).expanduser() / Path(path).expanduser()

    def input_location(self, path: str) -> Location:
        """`path` as `input_path` takes it, or the object storage that a URL names.

        Raises:
            ConfigError: a URL of another kind than s3://.
        """
        return location(path) if is_url(path) else self.input_path(path)

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
