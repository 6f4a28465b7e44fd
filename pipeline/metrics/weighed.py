"""CIDEr-D of captions against the references of all of many images at once, each image weighed.

What a caption would score with an image whose references nobody wrote, if its n-grams can be told
from other images': the weighed sum of its scores with them. Each n-gram is looked up once in all
references, so that thousands of images cost little more than a few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics import ptb
from pipeline.metrics.frequencies import DocumentFrequencies
from pipeline.metrics.ngrams import (
    ORDER,
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
    counts: Ints
    """How often it occurs there [E]."""
    shares: Floats
    """The same, over the length of the reference's weighted vector [E]."""


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
        bigrams = np.maximum(references.lengths - 1, 0)
        self._lengths, self._kinds = np.unique(bigrams, return_inverse=True)
        norms = references.norms(frequencies)
        self._postings = [
            _postings(references, counts, references.table.size(n), norms[:, n - 1])
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
        lengths, kinds = np.unique(np.maximum(captions.lengths - 1, 0), return_inverse=True)
        decay_RL = np.exp(-((self._lengths[:, None] - lengths) ** 2) / (2 * SIGMA**2))
        sizes = np.diff(self.references.starts)
        own_C = np.repeat(weights / sizes, sizes)
        counted = list(number_ngrams(captions))
        table = make_table(captions, [order.codes for order in counted])
        known = self.references.table.locate(table)
        total = np.zeros(len(lines))
        for n, (order, idf) in enumerate(
            zip(counted, self.frequencies.weights(table), strict=True)
        ):
            said = _said(order, idf, len(lines))
            keys, place, places = said.shared(next(known))
            sums_KL = self._sums(n, *keys, own_C, decay_RL)
            products = sums_KL[place, kinds[said.owners[places]]] * idf[said.ngrams[places]] ** 2
            summed = np.bincount(said.owners[places], products, len(lines))
            part = np.divide(summed, said.norms, out=np.zeros(len(lines)), where=said.norms > 0)
            total += orders[n] * part
        return 10.0 / ORDER * total

    def _sums(self, n: int, ngrams: Ints, times: Ints, own_C: Floats, decay_RL: Floats) -> Floats:
        """For K n-grams of the references, said so many times, sums for captions of L lengths [K, L]."""
        postings, lengths = self._postings[n], len(self._lengths)
        starts = postings.starts[ngrams]
        sizes = postings.starts[ngrams + 1] - starts
        entries = ranges(starts, sizes)
        captions = postings.captions[entries]
        values = postings.shares[entries] * own_C[captions]
        if (times > 1).any():
            values *= np.minimum(np.repeat(times, sizes), postings.counts[entries])
        cells = np.repeat(np.arange(len(ngrams)) * lengths, sizes) + self._kinds[captions]
        sums_KR = np.bincount(cells, values, len(ngrams) * lengths).reshape(-1, lengths)
        # Not a matrix product: its last bits depend on how many captions there are.
        sums = np.zeros((len(ngrams), decay_RL.shape[1]))
        for each_K, decay_L in zip(sums_KR.T, decay_RL, strict=True):
            sums += each_K[:, None] * decay_L
        return sums


class _Said(NamedTuple):
    """One order's n-grams in H captions, each of a caption's once [E]."""

    owners: Ints
    """The caption."""
    ngrams: Ints
    """Its number in the captions' own table."""
    counts: Ints
    """How often the caption has it."""
    useful: NDArray[np.bool_]
    """Whether it weighs anything."""
    norms: Floats
    """Length of each caption's weighted vector [H]."""

    def shared(self, known: Ints) -> tuple[tuple[Ints, Ints], Ints, Ints]:
        """What the references say too, by their own numbers `known`, -1 for unknown ones.

        Captions share most of what they say, so each n-gram comes once for every number of times
        that it is said: (numbers, times) [K]; which of those each entry is; and which entries.
        """
        places = np.flatnonzero((known[self.ngrams] >= 0) & self.useful)
        base = self.counts.max(initial=0) + 1
        keys = known[self.ngrams[places]] * base + self.counts[places]
        distinct, place = np.unique(keys, return_inverse=True)
        ngrams, times = np.divmod(distinct, base)
        return (ngrams, times), place, places


def _said(order: Occurrences, idf: Floats, captions: int) -> _Said:
    size = max(order.size, 1)
    keys, counts = np.unique(
        order.captions.astype(np.int64) * size + order.ngrams, return_counts=True
    )
    owners, ngrams = np.divmod(keys, size)
    norms = np.sqrt(np.bincount(owners, (counts * idf[ngrams]) ** 2, captions))
    return _Said(owners, ngrams, counts, idf[ngrams] > 0, norms)


def _postings(references: References, counts: Counts, ngrams: int, norms: Floats) -> _Postings:
    """The counts of one order, n-gram by n-gram instead of image by image."""
    starts: Ints = counts.entries.astype(np.int64)
    sizes = starts[1:] - starts[:-1]
    image = np.repeat(np.arange(len(references)), np.diff(counts.images))
    caption = np.repeat(references.starts[image], sizes) + counts.references
    ngram = np.repeat(counts.ngrams, sizes)
    by_ngram = np.argsort(ngram, kind="stable")
    caption, theirs = caption[by_ngram], counts.counts[by_ngram].astype(np.int64)
    shares = np.divide(theirs, norms[caption], out=np.zeros(len(theirs)), where=norms[caption] > 0)
    return _Postings(offsets(np.bincount(ngram, minlength=ngrams)), caption, theirs, shares)
