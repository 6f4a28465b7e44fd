"""Optimisation steps of the second phase: `Stepper` with the self-critical loss."""

from __future__ import annotations

from dataclasses import replace

import torch

from pipeline.config import TrainConfig
from pipeline.train.checkpoints import TrainingState
from pipeline.train.loader import Batch
from pipeline.train.loss import Loss
from pipeline.train.schedule import Schedule
from pipeline.train.self_critical import SelfCritical
from pipeline.train.step import AUTOCAST, Outcome, Stepper


def phase_settings(settings: TrainConfig) -> TrainConfig:
    """The second phase as if it were a training of its own."""
    chosen = settings.self_critical
    assert chosen is not None
    return settings.model_copy(
        update={
            "epochs": chosen.epochs,
            "batch_size": chosen.batch_size or settings.batch_size,
            "learning_rate": chosen.learning_rate,
            "encoder_learning_rate": chosen.encoder_learning_rate,
            "warmup_steps": chosen.warmup_steps,
            "encoder_frozen_epochs": 0,
        }
    )


class SelfCriticalStepper(Stepper):
    """Steps on drawn captions; the loss that it reports is -reward, CIDEr-D on 0..10."""

    def __init__(
        self,
        state: TrainingState,
        settings: TrainConfig,
        schedule: Schedule,
        device: torch.device,
        *,
        cached: bool,
        phase: SelfCritical,
        first_step: int,
    ) -> None:
        """Steps from `first_step` on, with the peaks of `settings` (see `phase_settings`)."""
        super().__init__(state, settings, schedule, device, cached=cached)
        self.phase, self.first_step, self.epoch = phase, first_step, 0
        self.collapse: str | None = None
        """What the guard has against the captions drawn lately."""
        self._figures: list[tuple[int, dict[str, float]]] = []
        peaks = {
            "decoder": settings.learning_rate,
            "encoder": settings.encoder_learning_rate,
        }
        for group in state.optimiser.param_groups:
            group["peak"] = peaks[group["part"]]

    def begin_epoch(self, epoch: int) -> None:
        """Captions are drawn anew each epoch."""
        super().begin_epoch(epoch)
        self.epoch = epoch

    def __call__(self, batch: Batch, step: int) -> Outcome:
        """Take step number `step`, counted from the training's first."""
        self._figures = []
        outcome = super().__call__(batch, step - self.first_step)
        pictures = sum(count for count, _ in self._figures)
        means = {
            name: sum(count * figures[name] for count, figures in self._figures) / pictures
            for name in (self._figures[0][1] if self._figures else {})
        }
        return replace(outcome, figures=means)

    def _loss(self, batch: Batch, piece: slice) -> Loss:
        rows = batch.pictures[piece]
        precision = AUTOCAST.get(self.settings.precision)
        with torch.autocast(self.device.type, precision, enabled=precision is not None):
            outcome = self.phase.step(
                self.piece_features(batch, piece), rows, self.epoch, batch.global_pictures
            )
        self._figures.append((len(rows), outcome.figures))
        self.collapse = self.collapse or outcome.collapse
        reward = torch.tensor(-outcome.figures["reward"] / 100 * len(rows), device=self.device)
        return Loss(outcome.loss, reward, len(rows))
