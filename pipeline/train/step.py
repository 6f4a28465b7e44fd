"""One optimisation step: a rank's part of a batch, in pieces, to gradients, to new weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import TrainConfig
from pipeline.images import normalise
from pipeline.models.captioner import Captioner
from pipeline.train.checkpoints import TrainingState
from pipeline.train.distributed import Ranks
from pipeline.train.loader import Batch
from pipeline.train.loss import Loss, caption_loss
from pipeline.train.optimiser import set_learning_rate
from pipeline.train.schedule import Schedule

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Outcome:
    """What a step came to, on this rank."""

    entropy_sum: float
    """Over this rank's words, nats."""
    words: int
    gradient_norm: float
    """Before clipping."""
    tokens: int
    """That were learned from, all ranks' together."""
    figures: dict[str, float] = field(default_factory=dict)
    """More for the log."""

    @property
    def loss(self) -> float:
        """Mean cross-entropy of this rank's words, nats."""
        return self.entropy_sum / max(self.words, 1)

    def finite(self, scaled: bool) -> bool:
        """Whether training can go on; with a loss scale, infinite gradients are skipped steps."""
        return math.isfinite(self.entropy_sum) and (scaled or math.isfinite(self.gradient_norm))


class Stepper:
    """Steps of one training state."""

    def __init__(
        self,
        state: TrainingState,
        settings: TrainConfig,
        schedule: Schedule,
        device: torch.device,
        *,
        cached: bool,
        ranks: Ranks | None = None,
    ) -> None:
        self.state, self.settings, self.schedule = state, settings, schedule
        self.device, self.cached, self.ranks = device, cached, ranks or Ranks()
        self._objective: Any = Objective(self.model)
        self._parallel: list[bool] = []
        """Which parameters it sums the gradients of."""
        self._losses = caption_losses
        if settings.compile:
            # It warns of a CUDA toolkit without a GPU, which is none of the user's concern.
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
            self._losses = torch.compile(caption_losses, dynamic=True)

    @property
    def model(self) -> Captioner:
        """What is trained."""
        return self.state.saved.model

    def begin_epoch(self, epoch: int) -> None:
        """Training mode, and whether the encoder's trained stages move in this epoch."""
        self.model.train()
        frozen = epoch < self.settings.encoder_frozen_epochs
        self.model.encoder.train(not frozen)
        for parameter in self._encoder_parameters():
            parameter.requires_grad_(not frozen)
        trained = [parameter.requires_grad for parameter in self.model.parameters()]
        if trained != self._parallel:
            # The former one's hooks go before another's come.
            self._objective = None
            self._objective = self.ranks.parallel(Objective(self.model))
            self._parallel = trained

    def _encoder_parameters(self) -> Iterator[torch.nn.Parameter]:
        for group in self.state.optimiser.param_groups:
            if group["part"] == "encoder":
                yield from group["params"]

    def __call__(self, batch: Batch, step: int) -> Outcome:
        """Take step number `step`, counted from 0.

        The pieces' losses are divided by the words of the whole global batch, so that their
        gradients, and those of all ranks, add up to the batch's.
        """
        optimiser, scaler = self.state.optimiser, self.state.scaler
        set_learning_rate(optimiser, self.schedule.share(step))
        optimiser.zero_grad(set_to_none=True)
        *early, last = self._pieces(batch)
        losses = []
        for piece in early:
            with self._objective.no_sync():
                losses.append(self._backward(batch, piece))
        losses.append(self._backward(batch, last))  # here the ranks' gradients meet
        if scaler is not None:
            scaler.unscale_(optimiser)
        trained = [p for group in optimiser.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, self.settings.clip_norm)
        outcome = Outcome(
            float(sum((loss.entropy_sum for loss in losses), torch.zeros((), device=self.device))),
            sum(loss.words for loss in losses),
            float(norm),
            batch.words,
        )
        if not outcome.finite(scaler is not None):
            return outcome  # the weights stay as they were
        if scaler is None:
            optimiser.step()
        else:
            scaler.step(optimiser)
            scaler.update()
        if self.state.average is not None:
            self.state.average.update(step)
        return outcome

    def _backward(self, batch: Batch, piece: slice) -> Loss:
        loss = Loss(*self._objective(self._loss, batch, piece))
        scaler = self.state.scaler
        (loss.total if scaler is None else scaler.scale(loss.total)).backward()
        return loss

    def _pieces(self, batch: Batch) -> Iterator[slice]:
        """At least one, which is empty where the rank has no pictures."""
        size = max(-(-len(batch.pictures) // self.settings.accumulate), 1)
        for first in range(0, max(len(batch.pictures), 1), size):
            yield slice(first, first + size)

    def piece_features(self, batch: Batch, piece: slice) -> Tensor:
        """What the frozen stages give for a piece's pictures."""
        images = batch.images[piece].to(self.device, non_blocking=True)
        if self.cached:
            return images
        return self.model.features(normalise(images, self.state.saved.transform))

    def _loss(self, batch: Batch, piece: slice) -> Loss:
        precision = AUTOCAST.get(self.settings.precision)
        with torch.autocast(self.device.type, precision, enabled=precision is not None):
            return self._losses(
                self.model,
                self.piece_features(batch, piece),
                batch.captions_BCT[piece].to(self.device, non_blocking=True),
                batch.real_BCT[piece].to(self.device, non_blocking=True),
                batch.words,
                batch.captions,
                self.settings,
            )


class Objective(nn.Module):
    """A piece's loss as a module's forward: what DistributedDataParallel can wrap."""

    def __init__(self, model: Captioner) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, loss: Callable[[Batch, slice], Loss], batch: Batch, piece: slice
    ) -> tuple[Tensor, Tensor, int]:
        """The fields of the `loss`, plain, since gradients are looked for in them.

        A rank without pictures gives zero to every parameter, for the others' sake: a sum needs
        all of its parts.
        """
        if not batch.pictures:
            trained = [p for p in self.model.parameters() if p.requires_grad]
            total = torch.stack([p.flatten()[:0].sum() for p in trained]).sum()
            return total, torch.zeros_like(total), 0
        found = loss(batch, piece)
        return found.total, found.entropy_sum, found.words

    def no_sync(self) -> AbstractContextManager[None]:
        """Of one process: there is nobody to meet."""
        return nullcontext()


def caption_losses(
    model: Captioner,
    features: Tensor,
    captions_BCT: Tensor,
    real_BCT: Tensor,
    words: int,
    captions: int,
    settings: TrainConfig,
) -> Loss:
    """The loss of a piece of a batch of so many words and captions; what torch.compile is given."""
    return caption_loss(
        model,
        model.memory(features),
        captions_BCT,
        real_BCT,
        label_smoothing=settings.label_smoothing,
        attention_penalty=settings.attention_penalty,
        words=words,
        captions=captions,
    )
