"""Where a run stands, in a few numbers: the next batch to take, and the scores so far."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class EpochScore(BaseModel):
    """An epoch's end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epoch: int
    """Epochs finished by then."""
    step: int
    """The checkpoint."""
    cider: float
    """On the validation split, x100 scale."""


class Position(BaseModel):
    """Everything about a run but its tensors; the same for any number of ranks."""

    model_config = ConfigDict(extra="forbid")

    epoch: int = 0
    """Epochs finished, the number of the one in progress."""
    batch: int = 0
    """Global batches of the epoch in progress that are done."""
    step: int = 0
    loss_sum: float = 0.0
    """Of the epoch in progress, over its words."""
    loss_words: int = 0
    scores: list[EpochScore] = []
    """Of the epochs finished."""
    finished: bool = False
    phase: Literal["cross_entropy", "self_critical"] = "cross_entropy"
    phase_epoch: int = 0
    """Epochs finished when the phase began."""
    phase_step: int = 0
    guard: dict[str, Any] | None = None
    """`CollapseGuard.state` of the second phase."""
    collapse: str | None = None
    """Why the guard ended it."""

    @property
    def best(self) -> EpochScore | None:
        """The highest CIDEr, the earliest of equals."""
        return max(self.scores, key=lambda score: score.cider, default=None)

    @property
    def reference(self) -> EpochScore | None:
        """The epoch that the second phase started from: the first's best; None before."""
        if self.phase == "cross_entropy":
            return None
        first = (score for score in self.scores if score.epoch <= self.phase_epoch)
        return max(first, key=lambda score: score.cider)

    @property
    def epochs_without_gain(self) -> int:
        """Since the best of this phase, or its start; what early stopping counts."""
        return 0 if self.best is None else self.epoch - max(self.best.epoch, self.phase_epoch)

    def in_second_phase(self, epoch: int) -> bool:
        """Whether an epoch, counted from 1, was one of the second phase."""
        return self.phase == "self_critical" and epoch > self.phase_epoch

    def begin_second_phase(self) -> None:
        """From here on captions are drawn."""
        self.phase, self.phase_epoch, self.phase_step = "self_critical", self.epoch, self.step

    def ranked(self, count: int, of: str) -> list[EpochScore]:
        """The `best` or the `last` epochs, at most `count`, first the best or the newest."""
        if of == "last":
            return self.scores[::-1][:count]
        return sorted(self.scores, key=lambda score: -score.cider)[:count]
