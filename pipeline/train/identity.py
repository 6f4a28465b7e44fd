"""What a training is known by: the settings that decide its weights, its data, its recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.config import Config, TrainConfig
from pipeline.config_model import FileTokenizerConfig, GPTConfig, is_weights_file
from pipeline.errors import ModelError, WeightsError
from pipeline.images import DECODE_RECIPE
from pipeline.records import ShardSet

# Raised by hand when the same settings and data would train to another model.
RECIPE = 5

# Settings that do not decide the weights.
MACHINERY = (
    "checkpoint_seconds",
    "keep_checkpoints",
    "workers",
    "devices",
    "sample_captions",
    "allow_overlap",
)


def fingerprint(config: Config, shard_set: ShardSet) -> str:
    """Of the settings that decide the weights and the shard set; not of devices or paths."""
    return storage.fingerprint(
        {
            "recipe": RECIPE,
            "decode": DECODE_RECIPE,
            "shards": shard_set.fingerprint,
            "train": _content(config),
        }
    )


def _content(config: Config) -> dict[str, Any]:
    settings = TrainConfig.model_dump(config.train, mode="json")
    for name in MACHINERY:
        del settings[name]
    start = settings.pop("start")
    if start is not None:
        from pipeline.models.saved import model_fingerprint

        with _of_setting("train.start", start):
            settings["start"] = model_fingerprint(config.input_path(start))
    if settings["encoder"]["levels"] is None:
        del settings["encoder"]["levels"]  # what was trained before there were any is the same
    weights = settings["encoder"]["weights"]
    if weights is not None and (path := weights_file(config)) is not None:
        settings["encoder"]["weights"] = storage.sha256_file(path)
    if (start := decoder_weights(config)) is not None:
        from pipeline.models.importers.checkpoint import Checkpoint as Pretrained

        with _of_setting("train.decoder.weights", settings["decoder"]["weights"]):
            settings["decoder"]["weights"] = Pretrained.open(start).weights_sha256()
    if isinstance(tokenizer := config.train.tokenizer, FileTokenizerConfig):
        from pipeline.text import Tokenizer

        path = config.input_path(tokenizer.path)
        with _of_setting("train.tokenizer.path", tokenizer.path):
            settings["tokenizer"]["path"] = Tokenizer.from_files(path).fingerprint
    return settings


@contextlib.contextmanager
def _of_setting(name: str, value: str) -> Iterator[None]:
    """What is wrong with the files that a setting names begins with the setting."""
    try:
        yield
    except ModelError as error:
        raise type(error)(f"{name} = {value!r}: {error}") from None


def weights_file(config: Config) -> Path | None:
    """The encoder's weights as a file; None where they are a torchvision name or absent.

    Raises:
        WeightsError: the file is not there.
    """
    weights = config.train.encoder.weights
    if weights is None or not is_weights_file(weights):
        return None
    path = config.input_path(weights)
    if not path.is_file():
        raise WeightsError(
            f"no weights file {path}; train.encoder.weights = {weights!r} is looked up below "
            f"data_root = {config.data_root!r}"
        )
    return path


def decoder_weights(config: Config) -> Path | None:
    """The GPT-2 checkpoint that the decoder starts from; None where it starts from scratch."""
    decoder = config.train.decoder
    weights = decoder.weights if isinstance(decoder, GPTConfig) else None
    return None if weights is None else config.input_path(weights)
