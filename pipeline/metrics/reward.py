"""CIDEr-D as a reward: many sampled captions an image, scored inside a training step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.metrics import ptb
from pipeline.metrics.cider import cider_d
from pipeline.metrics.frequencies import DocumentFrequencies
from pipeline.metrics.matching import Hypotheses
from pipeline.metrics.ngrams import Floats
from pipeline.metrics.references import References, with_end


def cider_reward(
    references: References,
    images: Sequence[int],
    hypotheses: Sequence[str],
    document_frequencies: DocumentFrequencies,
    ended: Sequence[bool] | None = None,
) -> Floats:
    """CIDEr-D [H], in 0..10, of H hypotheses (Rennie et al., 'Self-Critical Sequence Training', 2017).

    Args:
        references: of the training images, prepared once.
        images: each hypothesis' image, a place in `references`; an image may come many times.
        hypotheses: untokenised captions.
        document_frequencies: the training split's stored table; it does not grow.
        ended: whether each hypothesis came to its end token, where `references` count it; a
            caption that broke off then matches no reference's end. Default: all did.

    Raises:
        ValueError: another number of images or ends than of hypotheses, or an image that
            `references` do not have.
    """
    if not len(images) == len(hypotheses) == len(ended if ended is not None else hypotheses):
        raise ValueError(
            f"{len(hypotheses):,} hypotheses with {len(images):,} images"
            + ("" if ended is None else f" and {len(ended):,} ends")
            + "; give one each"
        )
    places = np.asarray(images if len(images) else np.empty(0, np.int64))
    if isinstance(hypotheses, str) or places.ndim != 1 or places.dtype.kind not in "iu":
        raise ValueError("images is a list of whole numbers, hypotheses a list of captions")
    if len(places) and not 0 <= places.min() <= places.max() < len(references):
        raise ValueError(
            f"images run from {places.min()} to {places.max()}, "
            f"the references from 0 to {len(references) - 1}"
        )
    # In a file, the end of a caption may depend on what the next one starts with, or on there being
    # a next one; who stands beside a sample is chance, so all have the same neighbour.
    lines = ptb.tokenize([line for caption in hypotheses for line in (caption, "a")])[::2]
    if references.end_token:
        ends = ended if ended is not None else [True] * len(lines)
        lines = [with_end(line) if end else line for line, end in zip(lines, ends, strict=True)]
    return cider_d(Hypotheses.match(lines, places, references), references, document_frequencies)
