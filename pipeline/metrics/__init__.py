"""Caption scores as coco-caption computes them: BLEU-1 to 4, ROUGE-L and CIDEr-D; only text.

Numbers are on coco-caption's own scale: BLEU and ROUGE-L in 0..1, CIDEr-D in 0..10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics import ptb
from pipeline.metrics.bleu import bleu_scores, bleu_statistics
from pipeline.metrics.cider import cider_d
from pipeline.metrics.frequencies import DocumentFrequencies
from pipeline.metrics.matching import Hypotheses
from pipeline.metrics.ngrams import Floats, Ints
from pipeline.metrics.references import References, with_end
from pipeline.metrics.reward import cider_reward
from pipeline.metrics.rouge import RougeCaptions, rouge_l
from pipeline.metrics.signature import signature
from pipeline.metrics.weighed import WeighedReferences

__all__ = [
    "METRICS",
    "DocumentFrequencies",
    "References",
    "Scores",
    "WeighedReferences",
    "cider_reward",
    "score_captions",
]

_IMAGES = 16_384
"""Scored at once, so that a large corpus takes little memory."""

METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")


@dataclass(frozen=True, eq=False)
class Scores:
    """What one set of N hypotheses scored."""

    corpus: dict[str, float]
    """For ROUGE-L and CIDEr-D the mean of `per_image`; for BLEU of all images' counts together."""
    per_image: dict[str, Floats]
    """[N] for each metric, in the order of the images."""
    bleu_statistics: Ints
    """[N, 10]: see `bleu.bleu_statistics`."""
    signature: str


def score_captions(
    references: References | Sequence[Sequence[str]],
    hypotheses: Sequence[str],
    document_frequencies: DocumentFrequencies | None = None,
) -> Scores:
    """Score one hypothesis an image against that image's references.

    Args:
        references: untokenised captions of each image, or `References` prepared before (to
            score against the same ones many times).
        hypotheses: one untokenised caption an image, in the same order; it may be empty.
        document_frequencies: a stored table for CIDEr-D; None counts those of `references`, as
            coco-caption does, so that CIDEr-D then depends on which images are scored together.

    Raises:
        ValueError: no images, an image without references (named by its place), or another
            number of hypotheses than of images.
    """
    if not isinstance(references, References):
        references = References(references)
    if len(references) != len(hypotheses):
        raise ValueError(
            f"{len(hypotheses):,} hypotheses for {len(references):,} images; give one each"
        )
    if not hypotheses:
        raise ValueError("there is nothing to score: references and hypotheses are empty")
    lines = ptb.tokenize(hypotheses)
    if references.end_token:
        lines = [with_end(line) for line in lines]
    frequencies = document_frequencies or references.document_frequencies
    parts = [
        _score(references, lines[start : start + _IMAGES], start, frequencies)
        for start in range(0, len(lines), _IMAGES)
    ]
    statistics, rouge, cider = (np.concatenate(column) for column in zip(*parts, strict=True))
    per_image = {
        **{f"bleu_{n}": column for n, column in enumerate(bleu_scores(statistics).T, 1)},
        "rouge_l": rouge,
        "cider": cider,
    }
    corpus = {
        **{f"bleu_{n}": float(s) for n, s in enumerate(bleu_scores(statistics.sum(0)), 1)},
        "rouge_l": float(rouge.mean()),
        "cider": float(cider.mean()),
    }
    return Scores(corpus, per_image, statistics, signature(references, document_frequencies))


def _score(
    references: References, lines: list[str], first: int, frequencies: DocumentFrequencies
) -> tuple[Ints, Floats, Floats]:
    """BLEU statistics, ROUGE-L and CIDEr-D of consecutive images, from the `first`."""
    images = np.arange(first, first + len(lines))
    hypotheses = Hypotheses.match(lines, images, references)
    rouge = RougeCaptions(lines, hypotheses.captions)
    return (
        bleu_statistics(hypotheses, references),
        rouge_l(rouge, images, references.rouge, references.starts),
        cider_d(hypotheses, references, frequencies),
    )
