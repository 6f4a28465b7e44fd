"""Caption scores as coco-caption computes them: BLEU-1 to 4, ROUGE-L and CIDEr-D; only text.

Numbers are on coco-caption's own scale: BLEU and ROUGE-L in 0..1, CIDEr-D in 0..10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.metrics import ptb
from pipeline.metrics.bleu import bleu_scores, statistics, total
from pipeline.metrics.cider import DocumentFrequencies, cider_d
from pipeline.metrics.ngrams import ngram_counts
from pipeline.metrics.references import References
from pipeline.metrics.rouge import rouge_l
from pipeline.metrics.signature import references_fingerprint, signature

__all__ = [
    "METRICS",
    "DocumentFrequencies",
    "References",
    "Scores",
    "references_fingerprint",
    "score_captions",
    "signature",
]

METRICS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")


@dataclass(frozen=True)
class Scores:
    """What one set of hypotheses scored.

    `per_image[metric]` is in the order of the images. `corpus` is the mean of it for ROUGE-L and
    CIDEr-D; for BLEU it is computed from the counts of all images together.
    """

    corpus: dict[str, float]
    per_image: dict[str, list[float]]
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
    frequencies = (
        references.document_frequencies if document_frequencies is None else document_frequencies
    )
    lines = ptb.tokenize(hypotheses)
    tokens = [line.split() for line in lines]
    counts = [ngram_counts(words) for words in tokens]
    parts = [
        statistics(count, len(words), prepared)
        for count, words, prepared in zip(counts, tokens, references.bleu, strict=True)
    ]
    bleus = [bleu_scores(part) for part in parts]
    per_image = {f"bleu_{n + 1}": [scores[n] for scores in bleus] for n in range(4)}
    per_image["rouge_l"] = [
        rouge_l(prepared, line.split(" "))
        for prepared, line in zip(references.rouge, lines, strict=True)
    ]
    per_image["cider"] = [
        cider_d(count, prepared, frequencies)
        for count, prepared in zip(counts, references.vectors(frequencies), strict=True)
    ]
    corpus = {f"bleu_{n + 1}": score for n, score in enumerate(bleu_scores(total(parts)))}
    for metric in ("rouge_l", "cider"):
        corpus[metric] = sum(per_image[metric]) / len(hypotheses)
    line = signature(references.fingerprint, len(references), document_frequencies)
    return Scores(corpus, per_image, line)
