"""BLEU-1 to BLEU-4 as coco-caption computes them, for each image and over a corpus.

Papineni, Roukos, Ward and Zhu, 'BLEU: a Method for Automatic Evaluation of Machine Translation'
(ACL 2002), sections 2.1 to 2.3, with coco-caption's choices: the closest reference length, and
two small constants that keep a precision of nothing above zero. Knows only counted n-grams.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.metrics.ngrams import ORDER, Ngram

TINY = 1e-15
"""Added to the matches of each order, so that none matched is not a score of zero."""

SMALL = 1e-9
"""Added to what a count is divided by, so that an empty hypothesis divides by something."""


@dataclass(frozen=True, slots=True)
class BleuReferences:
    """One image's references: their lengths in tokens and each n-gram's largest count in one."""

    lengths: tuple[int, ...]
    most: dict[Ngram, int]


@dataclass(frozen=True, slots=True)
class BleuStatistics:
    """What BLEU needs of one hypothesis, or the sum of it over many; index 0 is unigrams.

    Sums of these over any set of images give that set's BLEU, without the texts.
    """

    matched: tuple[int, ...]
    guessed: tuple[int, ...]
    length: int
    reference_length: int


def prepare(counts: Sequence[Counter[Ngram]], lengths: Sequence[int]) -> BleuReferences:
    """The references of one image, from each reference's n-gram counts and length."""
    most: dict[Ngram, int] = {}
    for reference in counts:
        for ngram, count in reference.items():
            if count > most.get(ngram, 0):
                most[ngram] = count
    return BleuReferences(tuple(lengths), most)


def statistics(counts: Counter[Ngram], length: int, references: BleuReferences) -> BleuStatistics:
    """Clipped matches (Papineni et al., section 2.1) and lengths of one hypothesis.

    A hypothesis' n-gram matches as often as it stands in the reference that has it most often.
    The reference length is the closest to the hypothesis' own, the shorter of two as close.
    """
    matched = [0] * ORDER
    most = references.most
    for ngram, count in counts.items():
        limit = most.get(ngram)
        if limit is not None:
            matched[len(ngram) - 1] += min(count, limit)
    guessed = tuple(max(0, length - n) for n in range(ORDER))
    closest = min((abs(other - length), other) for other in references.lengths)[1]
    return BleuStatistics(tuple(matched), guessed, length, closest)


def total(parts: Iterable[BleuStatistics]) -> BleuStatistics:
    """The statistics of several hypotheses together."""
    matched, guessed = [0] * ORDER, [0] * ORDER
    length = reference_length = 0
    for part in parts:
        for n in range(ORDER):
            matched[n] += part.matched[n]
            guessed[n] += part.guessed[n]
        length += part.length
        reference_length += part.reference_length
    return BleuStatistics(tuple(matched), tuple(guessed), length, reference_length)


def bleu_scores(parts: BleuStatistics) -> list[float]:
    """BLEU-1 to BLEU-4, each in 0..1.

    BLEU-N = BP * (p_1 * ... * p_N) ** (1 / N), where p_n = (matched_n + 1e-15) /
    (guessed_n + 1e-9) and the brevity penalty BP = exp(1 - 1 / ratio) if the ratio of the
    lengths (hypothesis to reference) is below 1 (Papineni et al., section 2.3).
    """
    ratio = (parts.length + TINY) / (parts.reference_length + SMALL)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores = []
    product = 1.0
    for n in range(ORDER):
        product *= (parts.matched[n] + TINY) / (parts.guessed[n] + SMALL)
        scores.append(penalty * product ** (1 / (n + 1)))
    return scores
