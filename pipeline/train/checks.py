"""Settings that cannot work with this shard set or machine stop here, before any work."""

from __future__ import annotations

import torch

from pipeline.config import Config, TrainConfig
from pipeline.errors import ConfigError
from pipeline.records import ShardSet


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
    last = pictures % settings.batch_size or settings.batch_size
    alone = any(
        -(-size // settings.accumulate) == 1 or size % -(-size // settings.accumulate) == 1
        for size in {min(settings.batch_size, pictures), last}
    )
    if alone and size <= 32:  # every encoder's grid is a 32nd of the picture: one place
        raise ConfigError(
            f"train.batch_size = {settings.batch_size} leaves a batch of one of {pictures} pictures; "
            f"at train.transform.size = {size} that is too little for batch statistics. Change "
            "either, or set train.encoder.freeze_batch_norm = true"
        )


def require_precision(settings: TrainConfig, device: torch.device) -> None:
    """Raise ConfigError where the device cannot train in `train.precision`."""
    if settings.precision == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"train.precision = fp16 needs a CUDA device, not {device.type}; take bf16 or fp32"
        )
