"""The train stage: a shard set in, the best checkpoint out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.config import Config, TrainConfig
from pipeline.config_model import FileTokenizerConfig, GPTConfig, is_weights_file
from pipeline.errors import ConfigError, DataError, WeightsError
from pipeline.images import DECODE_RECIPE
from pipeline.progress import say
from pipeline.records import Checkpoint, ShardSet

# Raised by hand when the same settings and data would train to another model.
RECIPE = 2

__all__ = ["find_checkpoint", "train"]


def train(config: Config, work: Path, shard_set: ShardSet) -> Checkpoint:
    """Train to the best validation CIDEr; resumes where a killed run stopped.

    Raises:
        ConfigError: a setting that cannot work, or a split that the shard set lacks.
        WeightsError: an encoder weights file that does not fit.
        BusyError: another run is training the same thing.
    """
    directory = _directory(config, work, shard_set)
    if (done := _load(directory)) is not None:
        best = "" if done.validation_cider is None else f", CIDEr {done.validation_cider:.1f}"
        say("train", f"nothing new: epoch {done.epoch}{best} ({directory})")
        return done
    with storage.lock(directory):
        if (done := _load(directory)) is not None:
            return done
        storage.remove_temporaries(directory)
        from pipeline.train.run import TrainingRun

        record = TrainingRun(config, work, shard_set, directory).finish()
        record.save(directory / "record.json")
        shutil.rmtree(directory / "checkpoints", ignore_errors=True)
        return record


def find_checkpoint(config: Config, work: Path, shard_set: ShardSet) -> Checkpoint:
    """The finished checkpoint of these settings.

    Raises:
        DataError: there is none yet.
    """
    directory = _directory(config, work, shard_set)
    found = _load(directory)
    if found is None:
        raise DataError(
            f"no finished checkpoint of these settings in {directory}; run `captionmill train` first"
        )
    return found


def _load(directory: Path) -> Checkpoint | None:
    try:
        record = Checkpoint.load(directory / "record.json")
    except (FileNotFoundError, ValueError):
        return None
    # Where the record lies is where its model lies, also after the work directory was moved.
    model = directory.absolute() / "model"
    files = ("captioner.json", "model.safetensors", "tokenizer.json")
    if not all((model / name).is_file() for name in files):
        return None
    return record.model_copy(update={"path": str(model)})


def _directory(config: Config, work: Path, shard_set: ShardSet) -> Path:
    return (work / "train" / fingerprint(config, shard_set)).absolute()


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
    for machinery in ("checkpoint_seconds", "keep_checkpoints", "allow_overlap"):
        del settings[machinery]
    weights = settings["encoder"]["weights"]
    if weights is not None and (path := weights_file(config)) is not None:
        settings["encoder"]["weights"] = storage.sha256_file(path)
    if (start := decoder_weights(config)) is not None:
        from pipeline.models.importers.checkpoint import Checkpoint as Pretrained

        settings["decoder"]["weights"] = Pretrained.open(start).weights_sha256()
    if isinstance(tokenizer := config.train.tokenizer, FileTokenizerConfig):
        from pipeline.text import Tokenizer

        path = config.input_path(tokenizer.path)
        settings["tokenizer"]["path"] = Tokenizer.from_files(path).fingerprint
    return settings


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


def require_validation(config: Config, shard_set: ShardSet) -> None:
    """Raise ConfigError unless the training and validation splits hold pictures."""
    for split in ("train", config.train.validation_split):
        if not shard_set.samples.get(split):
            known = ", ".join(f"{name} ({n})" for name, n in shard_set.samples.items())
            raise ConfigError(
                f"the shard set has no pictures in the split {split!r}; it has {known}. Give a source "
                "that split, set shard.holdout, or set train.validation_split"
            )


def require_batch_statistics(config: Config, shard_set: ShardSet) -> None:
    """Raise ConfigError if a step would leave batch normalisation with one value a channel."""
    settings, pictures = config.train, shard_set.samples["train"]
    encoder, size = settings.encoder, settings.transform.size or 224
    if encoder.freeze_batch_norm or encoder.train in ("none", 0):
        return
    alone = settings.batch_size == 1 or pictures % settings.batch_size == 1
    if alone and size <= 32:  # every encoder's grid is a 32nd of the picture: one place
        raise ConfigError(
            f"train.batch_size = {settings.batch_size} leaves a batch of one of {pictures} pictures; "
            f"at train.transform.size = {size} that is too little for batch statistics. Change "
            "either, or set train.encoder.freeze_batch_norm = true"
        )
