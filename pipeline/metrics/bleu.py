"""BLEU-1 to BLEU-4 as coco-caption computes them, for each image and over a corpus.

Papineni, Roukos, Ward and Zhu, 'BLEU: a Method for Automatic Evaluation of Machine Translation'
(ACL 2002), sections 2.1 to 2.3, with coco-caption's choices: the closest reference length, and
two small constants that keep a precision of nothing above zero. Knows only counted n-grams.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.matching import Hypotheses
from pipeline.metrics.ngrams import ORDER, Floats, Ints, offsets, ranges
from pipeline.metrics.references import References

TINY = 1e-15
"""Added to the matches of each order, so that none matched is not a score of zero."""

SMALL = 1e-9
"""Added to what a count is divided by, so that an empty hypothesis divides by something."""

COLUMNS = 2 * ORDER + 2
"""Of `bleu_statistics`: matched and possible n-grams of 1 to 4 words, length, reference length."""


def bleu_statistics(hypotheses: Hypotheses, references: References) -> Ints:
    """What BLEU needs of each hypothesis [H, `COLUMNS`].

    An n-gram matches as often as it stands in the reference that has it most often (Papineni et
    al., section 2.1). The reference length is the closest to the hypothesis' own, the shorter
    of two as close. Sums of rows over any set of images give that set's BLEU, without the texts.
    """
    lengths = hypotheses.captions.lengths
    statistics = np.empty((len(lengths), COLUMNS), np.int64)
    for n, (match, counts) in enumerate(zip(hypotheses.matches, references.counts, strict=True)):
        clipped = np.minimum(match.counts[match.shared], counts.most[match.groups])
        matched = np.bincount(match.hypotheses[match.shared], clipped, len(lengths))
        statistics[:, n] = matched.astype(np.int64)  # sums of small whole numbers are exact
        statistics[:, ORDER + n] = np.maximum(lengths - n, 0)
    statistics[:, -2] = lengths
    statistics[:, -1] = _closest(lengths, hypotheses.images, references)
    return statistics


def _closest(lengths: Ints, images: Ints, references: References) -> Ints:
    """The length closest to each hypothesis' among its references'."""
    if len(lengths) == 0:
        return lengths
    starts = references.starts[images]
    sizes = references.starts[images + 1] - starts
    others = references.lengths[ranges(starts, sizes)]
    base = int(others.max()) + 1
    # Distance first, then length, as one number, so that one minimum finds both.
    keys = np.abs(others - np.repeat(lengths, sizes)) * base + others
    closest: Ints = np.minimum.reduceat(keys, offsets(sizes)[:-1]) % base
    return closest


def bleu_scores(statistics: Ints | Floats) -> Floats:
    """BLEU-1 to BLEU-4, each in 0..1, of statistics or sums of them: [..., `COLUMNS`] to [..., 4].

    BLEU-N = BP * (p_1 * ... * p_N) ** (1 / N), where p_n = (matched_n + 1e-15) /
    (possible_n + 1e-9) and the brevity penalty BP = exp(1 - 1 / ratio) if the ratio of the
    lengths (hypothesis to reference) is below 1 (Papineni et al., section 2.3).
    """
    matched, possible = statistics[..., :ORDER], statistics[..., ORDER : 2 * ORDER]
    ratio = (statistics[..., -2] + TINY) / (statistics[..., -1] + SMALL)
    # An empty hypothesis has a ratio of nearly 0, and exp(-1e15) is 0 without a warning.
    penalty = np.exp(np.minimum(1 - 1 / ratio, 0.0))
    products = np.cumprod((matched + TINY) / (possible + SMALL), axis=-1)
    scores: Floats = penalty[..., None] * products ** (1 / np.arange(1, ORDER + 1))
    return scores
