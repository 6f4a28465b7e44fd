"""Two captioners' measurements into everything that the gate and the record need."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.metrics import METRICS, DocumentFrequencies, References, Scores, score_captions
from pipeline.metrics.bootstrap import confidence_intervals, paired_bootstrap
from pipeline.metrics.control import displaced
from pipeline.metrics.ngrams import Floats
from pipeline.metrics.signature import signature
from pipeline.promote.behaviour import length_and_vocabulary, repeated_share, shared_share
from pipeline.promote.measure import Measured
from pipeline.records import SLICES, Behaviour, EvaluationSet, Example, Gain, SliceScore
from pipeline.shards import ShardReader

LONGEST_VALUE = 100
"""Characters of a slice's value."""
EXAMPLES = 6
"""Pictures shown with both captions: half where the candidate gains most, half where it loses."""


@dataclass(frozen=True, eq=False)
class System:
    """One captioner on the evaluation set."""

    measured: Measured
    scores: Scores
    behaviour: Behaviour

    def percent(self) -> dict[str, float]:
        """Corpus scores x100."""
        return {name: 100 * score for name, score in self.scores.corpus.items()}


class Evaluator:
    """The evaluation set's references, and what measurements are worth against them."""

    def __init__(self, config: Config, evaluation_set: EvaluationSet) -> None:
        self.settings, self.evaluation_set = config.promote, evaluation_set
        reader = ShardReader(evaluation_set.shard_set, evaluation_set.split)
        infos = reader.infos()
        self.references = References([info["captions"] for info in infos])
        table = config.score.document_frequencies
        self.frequencies = (
            None if table is None else DocumentFrequencies.load(config.input_path(table))
        )
        self.values = None
        if self.settings.slice_by is not None:
            self.values = _column(self.settings.slice_by, infos)

    def signature(self) -> str:
        """The metrics' signature of everything that is scored here."""
        return signature(self.references, self.frequencies)

    def system(self, measured: Measured) -> System:
        """Score one captioner."""
        captions = list(measured.captions)
        scores = score_captions(self.references, captions, self.frequencies)
        misplaced = score_captions(self.references, displaced(captions), self.frequencies)
        length, vocabulary = length_and_vocabulary(captions)
        behaviour = Behaviour(
            length=length,
            vocabulary=vocabulary,
            repeated=repeated_share(captions),
            unfinished=measured.unfinished / len(captions),
            shared=shared_share(captions),
            misplaced=100 * misplaced.corpus["cider"],
            speed=len(captions) / max(measured.seconds, 1e-9),
            confidence=sum(measured.scores) / len(captions),
        )
        return System(measured, scores, behaviour)

    def gains(self, candidate: System, champion: System) -> dict[str, Gain]:
        """What the candidate has over the champion, by metric."""
        found = paired_bootstrap(champion.scores, candidate.scores, self.settings.resamples)
        return {
            metric: Gain(
                difference=100 * one.difference,
                low=100 * one.low,
                high=100 * one.high,
                p_value=one.p_value,
            )
            for metric, one in found.items()
        }

    def intervals(self, system: System) -> dict[str, tuple[float, float]]:
        """95 % intervals of a captioner's scores, x100 scale."""
        found = confidence_intervals(system.scores, self.settings.resamples)
        return {metric: (100 * found[metric].low, 100 * found[metric].high) for metric in METRICS}

    def slices(self, candidate: System, champion: System | None) -> list[SliceScore]:
        """Every slice, those that lose most first."""
        if self.values is None:
            return []
        ours = candidate.scores.per_image["cider"]
        theirs = None if champion is None else champion.scores.per_image["cider"]
        places: dict[str, list[int]] = {}
        for place, value in enumerate(self.values):
            places.setdefault(value, []).append(place)
        rows = [self._slice(value, where, ours, theirs) for value, where in places.items()]
        return sorted(rows, key=lambda row: (not row.judged, _loss(row), row.value))

    def _slice(
        self, value: str, where: list[int], ours: Floats, theirs: Floats | None
    ) -> SliceScore:
        return SliceScore(
            value=value,
            images=len(where),
            candidate=100 * float(ours[where].mean()),
            champion=None if theirs is None else 100 * float(theirs[where].mean()),
            judged=len(where) >= self.settings.min_slice,
        )


def _loss(row: SliceScore) -> float:
    return row.candidate - (row.champion if row.champion is not None else 0.0)


def _column(name: str, infos: Sequence[dict[str, Any]]) -> list[str]:
    """Each picture's value of a `meta` column, as text; long ones are cut.

    Raises:
        ConfigError: no picture has that column; names those there are.
    """
    if not any(name in info["meta"] for info in infos):
        known = sorted({key for info in infos for key in info["meta"]})
        raise ConfigError(
            f"promote.slice_by = {name!r}: the evaluation set's pictures have no such column in "
            f"`meta`; they have {', '.join(known) or 'none'}"
        )
    return [textwrap.shorten(str(info["meta"].get(name)), LONGEST_VALUE) for info in infos]


def shown(slices: Sequence[SliceScore]) -> tuple[SliceScore, ...]:
    """As many slices as a record lists."""
    return tuple(slices[:SLICES])


def examples(candidate: System, champion: System | None) -> tuple[Example, ...]:
    """Pictures to look at: where CIDEr rises and falls most, or is highest and lowest."""
    ours = candidate.scores.per_image["cider"]
    theirs = None if champion is None else champion.scores.per_image["cider"]
    order = np.argsort(ours if theirs is None else theirs - ours, kind="stable").tolist()
    if theirs is None:
        order.reverse()
    half = EXAMPLES // 2
    chosen = order if len(order) <= EXAMPLES else [*order[:half], *order[-half:]]
    return tuple(
        Example(
            image=candidate.measured.images[place],
            candidate=candidate.measured.captions[place],
            candidate_cider=100 * float(ours[place]),
            champion=None if champion is None else champion.measured.captions[place],
            champion_cider=None if theirs is None else 100 * float(theirs[place]),
        )
        for place in chosen
    )
