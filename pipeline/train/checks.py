"""Settings that cannot work with this shard set or machine stop here, before any work."""

from __future__ import annotations

import torch

from pipeline.config import Config, TrainConfig
from pipeline.errors import ConfigError
from pipeline.models.encoders import check_name
from pipeline.records import ShardSet


def require_settings(config: Config, shard_set: ShardSet, world: int = 1) -> None:
    """Raise ConfigError for what can be known without the model; of `world` ranks."""
    require_validation(config, shard_set)
    require_ranks(config.train, world)
    require_batch_statistics(config, shard_set, world)
    check_name(config.train.encoder.name)


def require_validation(config: Config, shard_set: ShardSet) -> None:
    """Raise ConfigError unless the training and validation splits hold pictures."""
    for split in ("train", config.train.validation_split):
        if not shard_set.samples.get(split):
            known = ", ".join(f"{name} ({n})" for name, n in shard_set.samples.items())
            raise ConfigError(
                f"the shard set has no pictures in the split {split!r}; it has {known}. Give a source "
                "that split, set shard.holdout, or set train.validation_split"
            )


def require_ranks(settings: TrainConfig, world: int) -> None:
    """Raise ConfigError unless the ranks divide the batches of both phases."""
    second = settings.self_critical
    sizes = {"train.batch_size": settings.batch_size}
    if second is not None and second.batch_size is not None:
        sizes["train.self_critical.batch_size"] = second.batch_size
    for name, size in sizes.items():
        if size % world:
            raise ConfigError(
                f"{name} = {size} is not divisible by {world} ranks; take "
                f"{max(size // world, 1) * world}, or another number of devices"
            )


def require_batch_statistics(config: Config, shard_set: ShardSet, world: int = 1) -> None:
    """Raise ConfigError if a step would leave batch normalisation with one value a channel."""
    settings, pictures = config.train, shard_set.samples["train"]
    encoder, size = settings.encoder, settings.transform.size or 224
    if encoder.freeze_batch_norm or encoder.train in ("none", 0):
        return
    last = pictures % settings.batch_size or settings.batch_size
    alone = any(
        -(-size // settings.accumulate) == 1 or size % -(-size // settings.accumulate) == 1
        for batch in {min(settings.batch_size, pictures), last}
        for size in {-(-(batch - rank) // world) for rank in range(min(world, batch))}
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


def require_compiler(settings: TrainConfig, device: torch.device) -> None:
    """Raise ConfigError where `train.compile` asks for a compiler that is not there.

    Known of a CPU alone, for which torch writes C++.
    """
    if not settings.compile or device.type != "cpu":
        return
    # Imported here: it takes a second, and most trainings do without.
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        raise ConfigError(
            "train.compile = true needs a C++ compiler to train on a CPU, and none was found; install "
            "g++, name another in the environment variable CXX, or set train.compile = false"
        ) from None
