"""Trains by settings in a file until the first step is taken, says so and leaves.

    python tests/benchmarks/first_step.py CONFIG WORK

What `train_speed.py` starts to time a fresh process; WORK holds the shard set already.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from pipeline.config import load_config
from pipeline.shard import find_shard_set
from pipeline.train import run, train
from pipeline.train.loader import Batch
from pipeline.train.step import Outcome, Stepper

REACHED = "first step taken"


class Leaves(Stepper):
    """Steps once."""

    def __call__(self, batch: Batch, step: int) -> Outcome:
        outcome = super().__call__(batch, step)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        print(f"{REACHED}: loss {outcome.loss:.3f}", flush=True)
        # At once: nothing that comes after the step is of interest.
        os._exit(0)


if __name__ == "__main__":
    config, work = load_config(sys.argv[1]), Path(sys.argv[2])
    run.Stepper = Leaves  # type: ignore[misc]
    train(config, work, find_shard_set(config, work))
