"""CIDEr-D of captions against the references of all of many images at once, each image weighed.

What a caption would score with an image whose references nobody wrote, if its n-grams can be told
from other images': the weighed sum of its scores with them. Each n-gram is looked up once in all
references, so that thousands of images cost little more than a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.metrics import ptb
from pipeline.metrics.frequencies import DocumentFrequencies
from pipeline.metrics.ngrams import (
    ORDER,
    Captions,
    Floats,
    Ints,
    Occurrences,
    make_table,
    number_ngrams,
    offsets,
    ranges,
    read_captions,
)
from pipeline.metrics.references import Counts, References
from pipeline.metrics.signature import SIGMA


class _Postings(NamedTuple):
    """Of one order, where each n-gram occurs in the references."""

    starts: Ints
    """Each n-gram's first occurrence [n-grams + 1]."""
    captions: Ints
    """Its reference [E]."""
    counts: Floats
    """How often it occurs there [E]."""


class WeighedReferences:
    """The references of N images, ready to be scored against all at once."""

    def __init__(self, references: References, frequencies: DocumentFrequencies) -> None:
        """Images whose n-grams weigh what `frequencies` say.

        Raises:
            ValueError: one of the two counts the end of a caption as a word.
        """
        if references.end_token or frequencies.end_token:
            raise ValueError("weighed scores count no end token; take references without")
        self.references, self.frequencies = references, frequencies
        self._norms = references.norms(frequencies)
        self._postings = [
            _postings(references, counts, references.table.size(n))
            for n, counts in enumerate(references.counts, 1)
        ]

    def cider_d(
        self,
        hypotheses: Sequence[str],
        weights: Floats,
        orders: tuple[float, ...] = (1.0,) * ORDER,
    ) -> Floats:
        """sum_i weights[i] * CIDEr-D(hypothesis, image i) of each of H captions [H] (`cider.cider_d`).

        Args:
            hypotheses: untokenised captions.
            weights: of the images [N]; any numbers.
            orders: what n-grams of 1 to `ORDER` words count; CIDEr-D counts all alike.

        Raises:
            ValueError: another number of weights than of images.
        """
        if weights.shape != (len(self.references),):
            raise ValueError(f"{weights.shape} weights for {len(self.references):,} images")
        # As in `reward.cider_reward`: what stands behind a caption must not change its tokens.
        lines = ptb.tokenize([line for caption in hypotheses for line in (caption, "a")])[::2]
        captions = read_captions(lines)
        lengths, kind = np.unique(np.maximum(captions.lengths - 1, 0), return_inverse=True)
        shares_LC = self._shares(weights, lengths)
        counted = list(number_ngrams(captions))
        table = make_table(captions, [order.codes for order in counted])
        known = self.references.table.locate(table)
        total = np.zeros(len(lines))
        for n, (order, idf) in enumerate(
            zip(counted, self.frequencies.weights(table), strict=True)
        ):
            part = self._order(n, order, idf, next(known), shares_LC, kind, captions)
            total += orders[n] * part
        return 10.0 / ORDER * total

    def _shares(self, weights: Floats, lengths: Ints) -> Floats:
        """What each reference counts for a caption of each of `lengths` (in bigrams): [L, C]."""
        sizes = np.diff(self.references.starts)
        own = np.repeat(weights / sizes, sizes)
        delta = lengths[:, None] - np.maximum(self.references.lengths - 1, 0)
        shares: Floats = own * np.exp(-(delta**2) / (2 * SIGMA**2))
        return shares

    def _order(
        self,
        n: int,
        order: Occurrences,
        idf: Floats,
        known: Ints,
        shares_LC: Floats,
        kind: Ints,
        captions: Captions,
    ) -> Floats:
        """The part of n-grams of one order [H]."""
        size = max(order.size, 1)
        keys, counts = np.unique(
            order.captions.astype(np.int64) * size + order.ngrams, return_counts=True
        )
        owner, ngram = np.divmod(keys, size)
        norms = np.sqrt(np.bincount(owner, (counts * idf[ngram]) ** 2, len(captions.lengths)))
        useful = (known[ngram] >= 0) & (idf[ngram] > 0)
        owner, ngram, counts = owner[useful], ngram[useful], counts[useful]
        # Captions share most of what they say: each n-gram is summed up once for every number of
        # times that it is said, and for all lengths.
        said, place = np.unique(ngram * (counts.max(initial=0) + 1) + counts, return_inverse=True)
        ngrams, times = np.divmod(said, counts.max(initial=0) + 1)
        sums_KL = self._sums(n, known[ngrams], times, shares_LC) * idf[ngrams, None] ** 2
        products = np.bincount(owner, sums_KL[place, kind[owner]], len(captions.lengths))
        return np.divide(products, norms, out=np.zeros(len(norms)), where=norms > 0)

    def _sums(self, n: int, ngrams: Ints, times: Ints, shares_LC: Floats) -> Floats:
        """For K n-grams, said so many times, the sums over their references [K, L]."""
        postings = self._postings[n]
        starts = postings.starts[ngrams]
        sizes = postings.starts[ngrams + 1] - starts
        if not len(sizes):
            return np.zeros((0, len(shares_LC)))
        entries = ranges(starts, sizes)
        caption, theirs = postings.captions[entries], postings.counts[entries]
        values = np.minimum(np.repeat(times, sizes), theirs) * theirs / self._norms[caption, n]
        sums: Floats = np.add.reduceat(
            shares_LC[:, caption] * values, offsets(sizes)[:-1], axis=1
        ).T
        return sums


def _postings(references: References, counts: Counts, ngrams: int) -> _Postings:
    """The counts of one order, n-gram by n-gram instead of image by image."""
    starts = counts.entries.astype(np.int64)
    sizes = np.diff(starts)
    image = np.repeat(np.arange(len(references)), np.diff(counts.images))
    caption = np.repeat(references.starts[image], sizes) + counts.references
    ngram = np.repeat(counts.ngrams, sizes)
    by_ngram = np.argsort(ngram, kind="stable")
    return _Postings(
        offsets(np.bincount(ngram, minlength=ngrams)),
        caption[by_ngram],
        counts.counts[by_ngram].astype(np.float64),
    )
