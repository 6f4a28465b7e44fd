"""The guard of self-critical training: notices captions that please the reward and nobody else.

Knows token ids alone. A caption here is its tokens without the begin token, with the end token
if it came to its end.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

from pipeline.config_self_critical import GuardConfig


@dataclass
class CaptionFigures:
    """What a run of captions looks like, counted caption by caption."""

    eos: int
    captions: int = 0
    tokens: int = 0
    ended: int = 0
    pairs: int = 0
    repeated: int = 0
    """Pairs of neighbouring tokens that occurred earlier in the same caption."""
    vocabulary: set[int] = field(default_factory=set)

    def add(self, captions: Iterable[Sequence[int]]) -> None:
        """Count more captions."""
        for tokens in captions:
            pairs = list(pairwise(tokens))
            self.captions += 1
            self.tokens += len(tokens)
            self.ended += len(tokens) > 0 and tokens[-1] == self.eos
            self.pairs += len(pairs)
            self.repeated += len(pairs) - len(set(pairs))
            self.vocabulary.update(tokens)

    def merge(self, other: CaptionFigures) -> None:
        """Count what another has counted."""
        for name in ("captions", "tokens", "ended", "pairs", "repeated"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.vocabulary |= other.vocabulary

    def state(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**vars(self), "vocabulary": sorted(self.vocabulary)}

    @classmethod
    def of(cls, state: dict[str, Any]) -> Self:
        """The inverse of `state`."""
        return cls(**{**state, "vocabulary": set(state["vocabulary"])})

    @property
    def length(self) -> float:
        """Mean tokens a caption, the end token included."""
        return self.tokens / max(self.captions, 1)

    @property
    def ended_share(self) -> float:
        """Share of the captions that came to their end token."""
        return self.ended / max(self.captions, 1)

    @property
    def repeats(self) -> float:
        """Share of the token pairs that their caption had already."""
        return self.repeated / max(self.pairs, 1)


class CollapseGuard:
    """Judges drawn captions, a window at a time, beside the references.

    Its state is small and decides what comes next, so it belongs into a run's checkpoint.
    """

    def __init__(
        self, settings: GuardConfig, references: Sequence[Sequence[int]], eos: int
    ) -> None:
        """Measure the references once.

        Args:
            settings: the limits.
            references: captions of the training split, without begin and with end token.
            eos: the end token.
        """
        self.settings, self.eos = settings, eos
        self.reference = CaptionFigures(eos)
        # As many as a window has: more captions have more different words.
        few = min(settings.window, len(references))
        self.reference.add(random.Random(0).sample(references, few))  # noqa: S311
        self.seen = CaptionFigures(eos)

    def add(self, captions: Sequence[Sequence[int]]) -> str | None:
        """Count drawn captions; at the end of a window what is wrong with it, else None."""
        counted = CaptionFigures(self.eos)
        counted.add(captions)
        return self.watch(counted)

    def watch(self, counted: CaptionFigures) -> str | None:
        """`add` of captions that were counted already."""
        self.seen.merge(counted)
        if self.seen.captions < self.settings.window:
            return None
        verdict, self.seen = self.judge(self.seen), CaptionFigures(self.eos)
        return verdict

    def judge(self, seen: CaptionFigures) -> str | None:
        """Every limit that these captions break, with the figures; None if there is none."""
        limits, reference = self.settings, self.reference
        length = seen.length / reference.length
        vocabulary = len(seen.vocabulary) / len(reference.vocabulary)
        troubles = []
        if seen.ended_share < limits.min_ended:
            troubles.append(
                f"{seen.ended_share:.0%} of them come to their end (min_ended = {limits.min_ended:g})"
            )
        if seen.repeats > limits.max_repeats:
            troubles.append(
                f"{seen.repeats:.0%} of their token pairs are repeats "
                f"(max_repeats = {limits.max_repeats:g}; references {reference.repeats:.1%})"
            )
        if not limits.min_length <= length <= limits.max_length:
            troubles.append(
                f"{seen.length:.1f} tokens on average, {length:.2f} times the references' "
                f"{reference.length:.1f} (min_length = {limits.min_length:g}, "
                f"max_length = {limits.max_length:g})"
            )
        if vocabulary < limits.min_vocabulary:
            troubles.append(
                f"{len(seen.vocabulary):,} different tokens, {vocabulary:.2f} times the "
                f"{len(reference.vocabulary):,} in {reference.captions:,} references "
                f"(min_vocabulary = {limits.min_vocabulary:g})"
            )
        if not troubles:
            return None
        return f"of the last {seen.captions:,} captions drawn: {'; '.join(troubles)}"

    def state(self) -> dict[str, Any]:
        """The window in progress, as JSON holds it."""
        return self.seen.state()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with a window that `state` gave."""
        self.seen = CaptionFigures.of(state)
