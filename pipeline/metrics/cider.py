"""CIDEr-D as coco-caption computes it.

Vedantam, Zitnick and Parikh, 'CIDEr: Consensus-based Image Description Evaluation' (CVPR 2015),
in its form CIDEr-D (no stemming, counts clipped, a Gaussian penalty on the difference of lengths).
Knows only counted n-grams.
"""

from __future__ import annotations

import numpy as np

from pipeline.metrics.frequencies import DocumentFrequencies
from pipeline.metrics.matching import Hypotheses
from pipeline.metrics.ngrams import ORDER, Floats, offsets, ranges
from pipeline.metrics.references import References
from pipeline.metrics.signature import SIGMA


def cider_d(
    hypotheses: Hypotheses, references: References, frequencies: DocumentFrequencies
) -> Floats:
    """CIDEr-D of each hypothesis [H], in 0..10.

    With g_n the vectors of n-grams (count times inverse document frequency, equation 1) and l
    the numbers of bigrams, the mean over the references r and over n = 1..4 of
    10 * exp(-(l_h - l_r)^2 / (2 * 6^2)) * sum(min(g_h, g_r) * g_r) / (|g_h| * |g_r|) (the paper's
    definition of CIDEr-D). The paper's length is in tokens; the released code counts bigrams, and
    so does this.

    Raises:
        ValueError: `frequencies` count the end of a caption and `references` do not, or otherwise.
    """
    if frequencies.end_token != references.end_token:
        counted = "the document frequencies" if frequencies.end_token else "the references"
        raise ValueError(f"only {counted} count the end of a caption as a word; make both alike")
    images, lengths = hypotheses.images, hypotheses.captions.lengths
    # Pairs of a hypothesis and a reference of its image, one after the other.
    sizes = np.diff(references.starts)[images]
    first = offsets(sizes)[:-1]
    pairs = int(sizes.sum())
    caption = ranges(references.starts[images], sizes)
    others = references.norms(frequencies)[caption]
    similarity = np.zeros(pairs)
    for n, own_weights in enumerate(frequencies.weights(hypotheses.table)):
        match, counts = hypotheses.matches[n], references.counts[n]
        weights = own_weights[match.ngrams]
        norms = np.sqrt(np.bincount(match.hypotheses, (match.counts * weights) ** 2, len(lengths)))
        starts = counts.entries[match.groups].astype(np.int64)
        held = counts.entries[match.groups + 1] - starts
        entries = ranges(starts, held)
        theirs = counts.counts[entries].astype(np.float64)
        ours = np.repeat(match.counts[match.shared], held)
        squares = np.repeat(weights[match.shared] ** 2, held)
        pair = np.repeat(first[match.hypotheses[match.shared]], held) + counts.references[entries]
        products = np.bincount(pair, np.minimum(ours, theirs) * theirs * squares, pairs)
        scale = np.repeat(norms, sizes) * others[:, n]
        similarity += np.divide(products, scale, out=np.zeros(pairs), where=products > 0)
    bigrams = np.maximum(lengths - 1, 0)
    delta = np.repeat(bigrams, sizes) - np.maximum(references.lengths[caption] - 1, 0)
    similarity *= np.exp(-(delta**2) / (2 * SIGMA**2))
    total = np.bincount(np.repeat(np.arange(len(lengths)), sizes), similarity, len(lengths))
    scores: Floats = 10.0 * total / (ORDER * sizes)
    return scores
