"""ROUGE-L as coco-caption computes it.

Lin, 'ROUGE: A Package for Automatic Evaluation of Summaries' (2004), section 3, with
coco-caption's choices: beta = 1.2, and the best precision and the best recall taken over the
references independently of each other. Knows only tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.ngrams import Captions, Floats, Ints, offsets, ranges

BETA = 1.2

_LONGEST = 64
"""References of more tokens do not fit a machine word and are compared by Python's integers."""
_LONGEST_HYPOTHESIS = 256
"""One of more words would pad all that are compared with it; Python compares it too."""
_PAIRS = 4096
"""Compared together: their tables fit the processor's cache."""
_ODD = re.compile(r"[^\S ]")


class RougeCaptions:
    """Tokenised captions for ROUGE-L, which splits at spaces alone, as coco-caption does.

    An empty caption is then one empty token, and a no-break space does not part words: the few
    captions where that differs from splitting at white space are kept as texts.
    """

    def __init__(self, lines: Sequence[str], captions: Captions) -> None:
        self.captions = captions
        self.starts = offsets(captions.lengths)
        self.odd = {
            place: line.split(" ")
            for place, line in enumerate(lines)
            if not line or _ODD.search(line)
        }

    def tokens(self, place: int) -> list[str]:
        """The tokens of one caption."""
        ids = self.captions.tokens[self.starts[place] : self.starts[place + 1]]
        return self.odd.get(place) or [self.captions.words[i] for i in ids.tolist()]

    def sizes(self) -> Ints:
        """How many tokens each caption has; never 0."""
        sizes = self.captions.lengths.copy()
        for place, tokens in self.odd.items():
            sizes[place] = len(tokens)
        return sizes


def rouge_l(
    hypotheses: RougeCaptions, images: Ints, references: RougeCaptions, starts: Ints
) -> Floats:
    """ROUGE-L of each hypothesis [H], in 0..1.

    With P the best of LCS / hypothesis length and R the best of LCS / reference length over the
    references: (1 + beta^2) * P * R / (R + beta^2 * P); 0 if nothing is in common (Lin, eq. 4).

    Args:
        hypotheses: of H captions.
        images: the image of each [H].
        references: captions of all images.
        starts: each image's first reference, and the end of the last [N + 1].
    """
    if len(images) == 0:
        return np.empty(0)
    sizes = np.diff(starts)[images]
    hypothesis = np.repeat(np.arange(len(images)), sizes)
    reference = ranges(starts[images], sizes)
    common = _common(hypotheses, hypothesis, references, reference)
    first = offsets(sizes)[:-1]
    precision = np.maximum.reduceat(common, first) / hypotheses.sizes()
    recall = np.maximum.reduceat(common / references.sizes()[reference], first)
    scale = recall + BETA**2 * precision
    scores: Floats = np.divide(
        (1 + BETA**2) * precision * recall, scale, out=np.zeros(len(images)), where=scale > 0
    )
    return scores


def _common(hypotheses: RougeCaptions, ours: Ints, references: RougeCaptions, theirs: Ints) -> Ints:
    """Length of the longest common subsequence of each pair of a hypothesis and a reference."""
    common = np.zeros(len(ours), np.int64)
    plain = references.captions.lengths[theirs] <= _LONGEST
    plain &= hypotheses.captions.lengths[ours] <= _LONGEST_HYPOTHESIS
    plain &= ~np.isin(ours, list(hypotheses.odd)) & ~np.isin(theirs, list(references.odd))
    places = np.flatnonzero(plain)
    # Pairs of like length together, so that little is padded.
    places = places[np.argsort(hypotheses.captions.lengths[ours[places]], kind="stable")]
    known = {word: place for place, word in enumerate(references.captions.words)}
    words = hypotheses.captions.words
    mapping = np.fromiter((known.get(word, -1) for word in words), np.int64, len(words))
    for start in range(0, len(places), _PAIRS):
        some = places[start : start + _PAIRS]
        own = _padded(hypotheses, ours[some], -1, mapping)
        other = _padded(references, theirs[some], -2)
        common[some] = _bit_parallel(own, other)
    for place in np.flatnonzero(~plain).tolist():
        common[place] = longest_common_subsequence(
            references.tokens(theirs[place]), hypotheses.tokens(ours[place])
        )
    return common


def _padded(
    captions: RougeCaptions, places: Ints, padding: int, mapping: Ints | None = None
) -> Ints:
    """Tokens of the captions at `places` [P, T]."""
    lengths = captions.captions.lengths[places]
    out = np.full((len(places), int(lengths.max(initial=0))), padding)
    tokens = captions.captions.tokens[ranges(captions.starts[places], lengths)]
    row = np.repeat(np.arange(len(places)), lengths)
    out[row, ranges(np.zeros_like(lengths), lengths)] = (
        tokens if mapping is None else mapping[tokens]
    )
    return out


def _bit_parallel(own: Ints, other: Ints) -> Ints:
    """LCS lengths of rows [P, T] and [P, R], R at most 64; paddings differ and match nothing.

    Hyyrö, 'Bit-Parallel LCS-length Computation Revisited' (2004), a row of the usual table as one
    machine word: a bit is clear where the table's row steps up by one, so the cleared bits of
    the last row are the length.
    """
    bits = np.left_shift(np.uint64(1), np.arange(other.shape[1], dtype=np.uint64))
    row: NDArray[np.uint64] = np.full(len(own), np.iinfo(np.uint64).max)
    for step in range(own.shape[1]):
        equal = own[:, step, None] == other
        steps = row & (equal @ bits if other.shape[1] else np.uint64(0))
        row = (row + steps) | (row - steps)
    cleared: Ints = 64 - np.bitwise_count(row).astype(np.int64)
    return cleared


def longest_common_subsequence(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Length of the longest common subsequence of two token lists of any length (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, token in enumerate(reference):
        places[token] = places.get(token, 0) | 1 << place
    full = (1 << len(reference)) - 1
    row = full
    for token in hypothesis:
        steps = row & places.get(token, 0)
        row = ((row + steps) | (row - steps)) & full
    return len(reference) - row.bit_count()
