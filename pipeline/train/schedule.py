"""The learning rate as a share of its peak: a function of the step alone, so nothing to restore."""

from __future__ import annotations

import math

from pipeline.config import TrainConfig


class Schedule:
    """Linear warm-up, then cosine, steps or nothing."""

    def __init__(self, config: TrainConfig, steps_per_epoch: int) -> None:
        self.warmup, self.settings = config.warmup_steps, config.schedule
        self.epoch, self.total = steps_per_epoch, steps_per_epoch * config.epochs

    def share(self, step: int) -> float:
        """Of the peak, at the step that is about to be taken, counted from 0.

        The cosine is Loshchilov & Hutter 2017 (SGDR), eq. 5, without restarts.
        """
        if step < self.warmup:
            return (step + 1) / self.warmup
        if self.settings.kind == "constant":
            return 1.0
        if self.settings.kind == "step":
            return float(
                self.settings.factor ** (step // (self.epoch * self.settings.every_epochs))
            )
        way = min((step - self.warmup) / max(self.total - self.warmup, 1), 1.0)
        floor = self.settings.floor
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * way))
