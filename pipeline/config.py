"""The settings: one strict model a stage, read from YAML, overridden by `a.b=value`.

Knows no stage's code. An unknown key, a wrong type or a value out of bounds is a
`ConfigError` that names the key, the value and what is allowed, before any work is done.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    field_validator,
    model_validator,
)

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


class TransformConfig(Strict):
    """How a decoded picture becomes the model's input; belongs to the weights."""

    size: int = Field(224, ge=16, le=1024, description="Side of the square input, pixels.")
    resize: Literal["squash", "crop", "pad"] = Field(
        "squash",
        description="squash: both sides to size; crop: short side then centre; pad: long side, then grey borders.",
    )
    mean: tuple[float, float, float] | None = Field(
        None,
        description="RGB on 0..1; default: what belongs to the named weights, else ImageNet's.",
    )
    std: tuple[float, float, float] | None = None


def is_weights_file(weights: str) -> bool:
    """Whether a `weights` setting is a path rather than a torchvision weights name."""
    return "/" in weights or weights.endswith((".pth", ".pt", ".safetensors"))


class EncoderConfig(Strict):
    """The picture encoder."""

    name: str = Field("resnet18", description="Any torchvision ResNet, MobileNetV2 or MobileNetV3.")
    weights: str | None = Field(
        None, description="A torchvision weights name (IMAGENET1K_V1, DEFAULT), a file, or none."
    )
    train: Literal["none", "all"] | StrictInt = Field(
        "none", description="Which stages are fine-tuned: none, all, or the last N."
    )
    freeze_batch_norm: bool = Field(
        True, description="Keep batch statistics fixed while fine-tuning."
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _none_is_a_word_too(cls, value: Any) -> Any:
        return None if value == "none" else value


class DecoderConfig(Strict):
    """The caption decoder."""

    kind: Literal["lstm"] = "lstm"
    width: int = Field(512, ge=8, le=8192, description="LSTM state width.")
    embedding: int = Field(512, ge=8, le=8192, description="Word embedding width.")
    attention: int = Field(512, ge=8, le=8192, description="Width of the additive attention.")
    dropout: float = Field(0.5, ge=0, lt=1)


class TokenizerConfig(Strict):
    """The word-level tokenizer that is built on the training captions."""

    min_count: int = Field(5, ge=1, description="Rarer words become the unknown word.")
    max_words: int = Field(50_000, ge=8, description="Most words kept, the frequent first.")


class GenerationConfig(Strict):
    """How captions are searched for; travels with the model."""

    beam: int = Field(3, ge=1, le=64)
    max_len: int = Field(30, ge=2, le=512, description="Most tokens a caption, end token included.")
    min_len: int = Field(1, ge=0, le=512, description="Fewest tokens before the end token.")
    length_penalty: float = Field(
        1.0, ge=0, le=4, description="Beam score = sum of log-probabilities / tokens ** this."
    )

    @model_validator(mode="after")
    def _room_for_the_end(self) -> Self:
        if self.min_len >= self.max_len:
            raise ValueError(f"min_len = {self.min_len} must be below max_len = {self.max_len}")
        return self


class TrainConfig(Strict):
    """`train`: shards into a checkpoint."""

    encoder: EncoderConfig = Field(default_factory=EncoderConfig)
    decoder: DecoderConfig = Field(default_factory=DecoderConfig)
    transform: TransformConfig = Field(default_factory=TransformConfig)
    tokenizer: TokenizerConfig = Field(default_factory=TokenizerConfig)
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
        description="Weight of the doubly stochastic attention term (Xu et al. 2015, eq. 14).",
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


class ScoreConfig(Strict):
    """`score`: a checkpoint and a split into a score card."""

    split: str = Field("val", description="The split that is captioned and scored.")
    batch_size: int = Field(32, ge=1, le=65_536)
    beam: int | None = Field(None, ge=1, le=64, description="Default: the model's own.")
    shuffle_images: bool = Field(
        False,
        description="Control: caption each picture but score it against another's references.",
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
    tree = _read_yaml(Path(path)) if path is not None else {}
    for override in overrides or []:
        _apply(tree, override)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        origin = str(path) if path is not None else "the settings"
        raise ConfigError(_explain(error, origin)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}; see configs/ for examples") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date such as 2020-13-45
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{path}{where} is not valid YAML: {problem}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path} must hold a mapping of sections, not a {type(tree).__name__}")
    return tree


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(
            f"--set {override!r} is not of the form a.b=value, such as train.epochs=3"
        )
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):  # a date such as 2020-13-45
        raise ConfigError(f"--set {key}: {text!r} is not a YAML value") from None
    node: Any = tree
    for part in parts[:-1]:
        node = _child(node, part, override)
    last: Any = parts[-1]
    if isinstance(node, list):
        last = _position(node, last, override)
    node[last] = value


def _child(node: Any, part: str, override: str) -> Any:
    if isinstance(node, list):
        return node[_position(node, part, override)]
    child = node.setdefault(part, {})
    if child is None:
        child = node[part] = {}
    if not isinstance(child, dict | list):
        raise ConfigError(f"--set {override}: {part} is a value, not a section")
    return child


def _position(node: list[Any], part: str, override: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise ConfigError(f"--set {override}: {part!r} is not a position below {len(node)}")
    return int(part)


def _explain(error: ValidationError, origin: str) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        place = [part for part in problem["loc"] if part not in {"int", "literal['none','all']"}]
        key = ".".join(str(part) for part in place)
        if problem["type"] == "extra_forbidden":
            lines.append(_unknown_key(key, place))
        elif problem["type"] == "missing":
            lines.append(f"{key} is required")
        else:
            message = problem["msg"][0].lower() + problem["msg"][1:]
            lines.append(f"{key} = {problem['input']!r}: {message}")
    return f"{origin}: " + "; ".join(dict.fromkeys(lines))


def _unknown_key(key: str, place: list[Any]) -> str:
    known = _keys_at(place[:-1])
    close = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.5)
    if close:
        nearest = ".".join([*map(str, place[:-1]), close[0]])
        return f"unknown key {key}; did you mean {nearest}?"
    elsewhere = [
        section for section in Config.model_fields if str(place[-1]) in _keys_at([section])
    ]
    if elsewhere:
        return f"unknown key {key}; did you mean {elsewhere[0]}.{place[-1]}?"
    return f"unknown key {key}; known here: {', '.join(known)}"


def _keys_at(place: list[Any]) -> list[str]:
    model: Any = Config
    for part in place:
        if isinstance(part, int):
            continue
        if part == "sources":
            model = Source
            continue
        field = model.model_fields.get(part)
        model = getattr(field, "annotation", None)
        if not (isinstance(model, type) and issubclass(model, BaseModel)):
            return []
    return list(model.model_fields)
