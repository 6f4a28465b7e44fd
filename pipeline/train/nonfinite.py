"""A loss that is no number any more: what it met is kept, and training stops."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.config import TrainConfig
from pipeline.errors import ModelError
from pipeline.train.distributed import Ranks
from pipeline.train.loader import Batch, Loader
from pipeline.train.position import Position
from pipeline.train.step import Outcome


def refuse(
    ranks: Ranks,
    loader: Loader,
    batch: Batch,
    own: Outcome,
    whole: Outcome,
    position: Position,
    settings: TrainConfig,
    directory: Path,
) -> ModelError:
    """The error to raise, its pictures listed in `nonfinite.json`; all ranks call it.

    The pictures are those of the ranks whose own loss is no number, or the whole batch's where
    only the gradient is none.
    """
    parts: list[Any] = ranks.gather([math.isfinite(own.loss), batch.keys, batch.pictures])
    broken = [part for part in parts if not part[0]] or parts
    file = directory / "nonfinite.json"
    found = {
        "step": position.step,
        "epoch": position.epoch,
        "batch": batch.number,
        "loss": str(whole.loss),
        "gradient_norm": str(whole.gradient_norm),
        "ids": [loader.reader.info(n)["id"] for _, _, pictures in broken for n in pictures],
        "keys": [key for _, keys, _ in broken for key in keys],
    }
    if ranks.first:
        storage.commit_json(file, found)
    ranks.wait()
    return ModelError(
        f"the loss became {whole.loss} (gradient norm {whole.gradient_norm}) at step "
        f"{position.step}; its pictures are listed in {file}. Lower train.learning_rate "
        f"(now {settings.learning_rate}) or train.clip_norm (now {settings.clip_norm})"
    )
