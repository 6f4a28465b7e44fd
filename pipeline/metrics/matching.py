"""Hypotheses counted and looked up in their images' references: what BLEU and CIDEr-D share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.metrics.ngrams import (
    Captions,
    Ints,
    NgramTable,
    make_table,
    number_ngrams,
    ranges,
    read_captions,
)
from pipeline.metrics.references import Counts, References


class Matches(NamedTuple):
    """One order's n-grams of the hypotheses, and those that their references have too."""

    hypotheses: Ints
    """Whose n-gram it is [E]; every distinct n-gram of a hypothesis once."""
    ngrams: Ints
    """Its number in the hypotheses' own table [E]."""
    counts: Ints
    """How often the hypothesis has it [E]."""
    shared: Ints
    """The places, in the three above, of n-grams that a reference of the image has [M]."""
    groups: Ints
    """Their groups in the references' `Counts` [M]."""


@dataclass(frozen=True, eq=False)
class Hypotheses:
    """H tokenised hypotheses beside the references of their images."""

    images: Ints
    """Each one's image: a place in the references [H]."""
    captions: Captions
    table: NgramTable
    matches: list[Matches]

    @classmethod
    def match(cls, lines: Sequence[str], images: Ints, references: References) -> Hypotheses:
        """Count `lines`, tokenised, against the references of `images`; one image may have several."""
        captions = read_captions(lines)
        orders = list(number_ngrams(captions))
        table = make_table(captions, [order.codes for order in orders])
        chosen, place = np.unique(images, return_inverse=True)
        matches = []
        for n, (order, known) in enumerate(
            zip(orders, references.table.locate(table), strict=True)
        ):
            size = max(order.size, 1)
            keys, numbers = np.unique(
                order.captions.astype(np.int64) * size + order.ngrams, return_counts=True
            )
            hypotheses, ngrams = np.divmod(keys, size)
            shared, groups = _look_up(
                known[ngrams],
                place[hypotheses],
                chosen,
                references.counts[n],
                references.table.size(n + 1),
            )
            matches.append(Matches(hypotheses, ngrams, numbers, shared, groups))
        return cls(images, captions, table, matches)


def _look_up(
    ngrams: Ints, places: Ints, chosen: Ints, counts: Counts, size: int
) -> tuple[Ints, Ints]:
    """Which of `ngrams` are in the references of their images, `chosen[places]`, and their groups."""
    starts = counts.images[chosen]
    lengths = counts.images[chosen + 1] - starts
    groups = ranges(starts, lengths)
    held = np.repeat(np.arange(len(chosen)), lengths) * size + counts.ngrams[groups]
    shared = np.flatnonzero(ngrams >= 0)
    if len(held) == 0:
        return shared[:0], shared[:0]
    wanted = places[shared] * size + ngrams[shared]
    found = np.minimum(np.searchsorted(held, wanted), len(held) - 1)
    here = held[found] == wanted
    return shared[here], groups[found[here]]
