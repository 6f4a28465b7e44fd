"""What a decision rests on, beside the champion and the evaluation set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline import storage
from pipeline.config import Config
from pipeline.metrics.signature import VERSION as METRICS_VERSION
from pipeline.records import Checkpoint, EvaluationSet, ScoreCard, ShardSet
from pipeline.tracking import ModelVersion

RECIPE = 2
"""Raised by hand when the same candidate and champion would be decided on otherwise."""


@dataclass(frozen=True)
class Case:
    """A candidate, where it comes from, and who asks."""

    config: Config
    work: Path
    shard_set: ShardSet
    checkpoint: Checkpoint
    card: ScoreCard
    asked_by: str
    cause: str
    flow_run: str | None
    earlier: tuple[ShardSet, ...]
    """What the captioners learned from that it was started from."""

    def identity(
        self,
        candidate: ModelVersion,
        champion: ModelVersion | None,
        evaluation_set: EvaluationSet,
    ) -> str:
        """The decision's fingerprint: what would have to change for another one."""
        card, score = self.card, self.config.score
        settings = self.config.promote.model_dump(mode="json", exclude={"evaluation_set"})
        return storage.fingerprint(
            {
                "recipe": RECIPE,
                "metrics": METRICS_VERSION,
                "candidate": [candidate.ref, candidate.fingerprint],
                "champion": champion and [champion.ref, champion.fingerprint],
                "card": [card.fingerprint, card.references, card.signature],
                "evaluation_set": evaluation_set.fingerprint,
                "score": [score.beam, score.dtype],
                "promote": settings,
            }
        )

    def keep(self, directory: Path) -> None:
        """Write it as files, as the version will carry it."""
        self.shard_set.save(directory / "shard_set.json")
        self.checkpoint.save(directory / "checkpoint.json")
        self.card.save(directory / "score_card.json")
        storage.commit(directory / "config.yaml", self.config.to_yaml())
