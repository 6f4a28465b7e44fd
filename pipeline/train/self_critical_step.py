"""Optimisation steps of the second phase: `Stepper` with the self-critical loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.config import TrainConfig
from pipeline.train.checkpoints import Checkpoints, TrainingState
from pipeline.train.collapse import CaptionFigures
from pipeline.train.distributed import Ranks
from pipeline.train.loader import Batch
from pipeline.train.loss import Loss
from pipeline.train.position import Position
from pipeline.train.reference import wants_reference
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


def prepare(
    state: TrainingState,
    captions: Sequence[Sequence[str]],
    settings: TrainConfig,
    directory: Path,
    position: Position,
    checkpoints: Checkpoints,
) -> SelfCritical:
    """The second phase of a run in `directory`; at its first step `state` goes back to the best epoch's weights."""
    phase = SelfCritical.of(state.saved, captions, settings, directory / "rewards.parquet")
    if position.guard is not None:
        phase.guard.restore(position.guard)
    if position.step == position.phase_step:
        assert position.best is not None
        best = checkpoints.load(position.best)
        state.saved.model.load_state_dict(best.model.state_dict())
        state.optimiser.state.clear()
        if state.average is not None:
            state.average.restart()
    elif wants_reference(settings) and checkpoints.ranks.first:
        assert position.reference is not None
        checkpoints.load(position.reference)  # what the end needs and is lost stops here
    return phase


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
        ranks: Ranks | None = None,
    ) -> None:
        """Steps from `first_step` on, with the peaks of `settings` (see `phase_settings`)."""
        super().__init__(state, settings, schedule, device, cached=cached, ranks=ranks)
        self.phase, self.first_step, self.epoch = phase, first_step, 0
        self.collapse: str | None = None
        """What the guard has against the captions drawn lately."""
        self._figures: list[tuple[int, dict[str, float]]] = []
        self._drawn = CaptionFigures(phase.guard.eos)
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
        self._figures, self._drawn = [], CaptionFigures(self.phase.guard.eos)
        outcome = super().__call__(batch, step - self.first_step)
        parts = self.ranks.gather((self._figures, self._drawn.state()))
        drawn = CaptionFigures(self.phase.guard.eos)
        for _, state in parts:
            drawn.merge(CaptionFigures.of(state))
        # Every rank's guard has seen every rank's captions, so that all come to the same verdict.
        self.collapse = self.collapse or self.phase.guard.watch(drawn)
        figures = _means([piece for pieces, _ in parts for piece in pieces])
        return replace(outcome, tokens=drawn.tokens, figures=figures)

    def _loss(self, batch: Batch, piece: slice) -> Loss:
        rows = batch.pictures[piece]
        precision = AUTOCAST.get(self.settings.precision)
        with torch.autocast(self.device.type, precision, enabled=precision is not None):
            outcome = self.phase.step(
                self.piece_features(batch, piece), rows, self.epoch, batch.global_pictures
            )
        self._figures.append((len(rows), outcome.figures))
        self._drawn.merge(outcome.drawn)
        reward = torch.tensor(-outcome.figures["reward"] / 100 * len(rows), device=self.device)
        return Loss(outcome.loss, reward, len(rows))


def _means(pieces: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Of the pieces' figures, weighted with their pictures."""
    pictures = sum(count for count, _ in pieces)
    return {
        name: sum(count * figures[name] for count, figures in pieces) / pictures
        for name in pieces[0][1]
    }
