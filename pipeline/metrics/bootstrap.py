"""Bootstrap over images: how far a score, or the difference of two, may be chance; only arrays.

Koehn, 'Statistical Significance Tests for Machine Translation Evaluation' (EMNLP 2004): draw as
many images as there are, with replacement, and score them again, thousands of times. Nothing is
tokenised or counted again: BLEU follows from the resample's summed statistics, ROUGE-L and
CIDEr-D are means of per-image scores, the document frequencies held fixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics import METRICS, Scores
from pipeline.metrics.bleu import COLUMNS, bleu_scores
from pipeline.metrics.ngrams import Floats

MEANS = ("rouge_l", "cider")
"""Metrics whose corpus score is the mean of the images' scores."""

FEW_IMAGES = 30
"""Below so many images, resampling them says little."""
_CELLS = 1 << 21
"""Images times resamples held in memory at once: 16 MiB an array."""

_EXACT = 52
"""Bits of a whole number that float64 holds with one to spare."""


@dataclass(frozen=True)
class Interval:
    """A system's score and its 95 % percentile interval, on coco-caption's scale."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """What system b has over system a in one metric, on coco-caption's scale.

    `difference` is b - a, `low` and `high` its 95 % percentile interval; `p_value` is two-sided:
    how often chance alone would show a difference this large if the systems were equals.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(
    a: Scores, b: Scores, resamples: int = 10_000, seed: int = 0
) -> dict[str, Difference]:
    """Compare two systems on the same images; a `Difference` for each of `METRICS`.

    Both systems are scored on the same resamples. The p-value is Riezler and Maxwell's, 'On Some
    Pitfalls in Automatic Evaluation and Significance Testing for MT' (2005), figure 2: the
    resampled differences are shifted to mean zero, which makes them a sample of what chance does
    to equals, and p = (1 + those at least as large as the real one) / (1 + resamples). They, and
    sacreBLEU after them, take absolute values before the shift, so that a difference counts in
    one direction only and p comes out about half of a two-sided one; here the shift comes first.

    Resamples of a handful of images hardly differ, and would call any difference certain; so p is
    never below 2 ** (1 - images), what a sign test could reach with all of them on one side.
    Below `FEW_IMAGES`, interval and p-value are rough even so.

    Args:
        a: scores of the one system, as `score_captions` gives them.
        b: scores of the other, of the same images in the same order.
        resamples: how many; p cannot be below 1 / (1 + resamples).
        seed: of the generator; the same seed gives the same numbers.

    Raises:
        ValueError: the signatures or the numbers of images differ, a score is not a finite number,
            or `resamples` is below 1.
    """
    if a.signature != b.signature:
        raise ValueError(
            f"scores with different signatures are not comparable: {a.signature} and {b.signature}"
        )
    ours, theirs = resampled_scores([a, b], resamples, seed)
    differences = {}
    least = 2.0 ** (1 - len(a.bleu_statistics))
    for place, metric in enumerate(METRICS):
        real = b.corpus[metric] - a.corpus[metric]
        drawn = theirs[:, place] - ours[:, place]
        low, high = np.percentile(drawn, [2.5, 97.5])
        as_large = int(np.count_nonzero(np.abs(drawn - drawn.mean()) >= abs(real)))
        differences[metric] = Difference(
            a=a.corpus[metric],
            b=b.corpus[metric],
            difference=real,
            low=float(low),
            high=float(high),
            p_value=max((as_large + 1) / (resamples + 1), least),
        )
    return differences


def confidence_intervals(
    scores: Scores, resamples: int = 10_000, seed: int = 0
) -> dict[str, Interval]:
    """The 95 % percentile interval of one system's score in each of `METRICS`.

    Says how far the score would move on other images like these. Two systems are not compared
    by looking whether their intervals overlap: `paired_bootstrap` sees much smaller differences.

    Raises:
        ValueError: `resamples` is below 1.
    """
    (drawn,) = resampled_scores([scores], resamples, seed)
    bounds = np.percentile(drawn, [2.5, 97.5], axis=0).T
    return {
        metric: Interval(scores.corpus[metric], float(low), float(high))
        for metric, (low, high) in zip(METRICS, bounds, strict=True)
    }


def resampled_scores(systems: Sequence[Scores], resamples: int, seed: int) -> list[Floats]:
    """Each system's scores on the same resamples: [resamples, len(METRICS)].

    A resample is a row of counts, how often each image was drawn, and its sums are that row
    times the images' statistics. All entries are whole numbers, so the sums are exact: the result
    does not depend on how many rows are multiplied at once, nor on the BLAS or its threads.

    Raises:
        ValueError: the numbers of images differ, or `resamples` is below 1.
    """
    sizes = [len(system.bleu_statistics) for system in systems]
    images = sizes[0]
    if len(set(sizes)) > 1:
        raise ValueError(f"the numbers of images differ: {' and '.join(map(str, sizes))}")
    if resamples < 1:
        raise ValueError(f"resamples must be 1 or more, not {resamples}")
    for system in systems:
        for metric in MEANS:
            if not np.isfinite(system.per_image[metric]).all():
                raise ValueError(f"a score of {metric} is not a finite number")
    scales = [_scale(system, images) for system in systems]
    statistics = np.hstack(
        [_statistics(system, scale) for system, scale in zip(systems, scales, strict=True)]
    )
    sums = np.empty((resamples, statistics.shape[1]))
    generator = np.random.default_rng(seed)
    chunk = max(1, _CELLS // images)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = generator.integers(images, size=(rows, images))
        drawn += images * np.arange(rows)[:, None]  # a bin for each image of each resample
        counts = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)
        sums[start : start + rows] = counts.astype(np.float64) @ statistics
    parts = np.split(sums, len(systems), axis=1)
    return [
        np.hstack([bleu_scores(part[:, :COLUMNS]), part[:, COLUMNS:] / (scale * images)])
        for part, scale in zip(parts, scales, strict=True)
    ]


def _statistics(system: Scores, scale: Floats) -> Floats:
    """What is summed over images: those of BLEU, then the scaled scores, all whole numbers."""
    means = np.column_stack([system.per_image[metric] for metric in MEANS])
    return np.hstack([system.bleu_statistics, np.rint(means * scale)])


def _scale(system: Scores, images: int) -> Floats:
    """The power of two for each of `MEANS` that keeps sums over `images` draws exact.

    5,000 images with scores to 10 leave a resolution of 1e-11.
    """
    largest = [max(1.0, float(np.max(system.per_image[metric]))) for metric in MEANS]
    scale: Floats = np.exp2(_EXACT - np.ceil(np.log2(np.array(largest) * images)))
    return scale
