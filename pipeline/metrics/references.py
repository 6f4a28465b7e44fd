"""References tokenised, numbered and counted once, so that scoring against them costs little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

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
    read_captions,
)
from pipeline.metrics.rouge import RougeCaptions
from pipeline.metrics.signature import references_fingerprint

END = "."
"""The end token where it is counted; the tokeniser drops full stops, so no word is like it."""

_BITS = 63
_IMAGES = 8192
"""Images whose vectors are weighed at once, so that little memory is taken."""


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each n-gram of one order occurs in each reference.

    Groups are pairs of an image and an n-gram of it, sorted; each holds an entry for every
    reference of the image that has the n-gram. Small integers: a training split has millions.
    """

    images: Ints
    """Each image's first group [N + 1]."""
    ngrams: NDArray[np.int32]
    """Each group's n-gram [G]."""
    entries: NDArray[np.unsignedinteger]
    """Each group's first entry [G + 1]."""
    references: NDArray[np.unsignedinteger]
    """Each entry's reference, counted from the image's first [E]."""
    counts: NDArray[np.unsignedinteger]
    """How often the n-gram occurs in it [E]."""

    @cached_property
    def most(self) -> NDArray[np.unsignedinteger]:
        """The largest count of each group in one reference [G] (BLEU's limit)."""
        if len(self.counts) == 0:
            return self.counts
        most: NDArray[np.unsignedinteger] = np.maximum.reduceat(self.counts, self.entries[:-1])
        return most


class References:
    """The references of N images, ready to score hypotheses against."""

    def __init__(self, references: Sequence[Sequence[str]], *, end_token: bool = False) -> None:
        """Tokenise and count.

        Args:
            references: untokenised captions of each image.
            end_token: count the end of a caption as a word, as self-critical training must: a
                reward without it invites captions that break off.

        Raises:
            ValueError: an image has no references; names its place in the list.
        """
        for index, captions in enumerate(references):
            if not captions:
                raise ValueError(
                    f"references[{index}] is empty; every image needs at least one reference "
                    "(leave out images without any)"
                )
        self.end_token = end_token
        self.starts = offsets(map(len, references))
        """Each image's first caption [N + 1]."""
        lines = ptb.tokenize(list(chain.from_iterable(references)))
        self.fingerprint = references_fingerprint(lines, self.starts)
        """SHA-256 of the tokenised references in order."""
        if end_token:
            lines = [with_end(line) for line in lines]
        words = read_captions(lines)
        self.rouge = RougeCaptions(lines, words)
        self.lengths = words.lengths
        """Words of each caption [C]."""
        del lines
        self.counts: list[Counts] = []
        codes = []
        for occurrences in number_ngrams(words):
            codes.append(occurrences.codes)
            self.counts.append(self._count(occurrences))
        self.table = make_table(words, codes)
        self._norms: tuple[DocumentFrequencies, Floats] | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __repr__(self) -> str:
        return f"<References: {len(self):,} images, {self.starts[-1]:,} captions>"

    def _count(self, occurrences: Occurrences) -> Counts:
        sizes = np.diff(self.starts)
        # One sort groups everything: image, n-gram and reference as one number.
        low = _bits(int(sizes.max(initial=1)))
        middle = low + _bits(occurrences.size)
        if middle + _bits(len(self)) > _BITS:
            raise ValueError(f"{len(self):,} images are too many to score at once; take parts")
        image = np.repeat(np.arange(len(self)), sizes)
        place = (image << middle) + np.arange(len(image)) - self.starts[image]
        keys = place[occurrences.captions]
        keys += occurrences.ngrams.astype(np.int64) << low
        del place, image
        keys.sort()
        first = _starts_of_runs(keys)
        counts = _small(np.diff(first, append=len(keys)))
        keys = keys[first]
        references = _small(keys & ((1 << low) - 1))
        keys >>= low
        first = _starts_of_runs(keys)
        entries = _small(np.append(first, len(keys)))
        keys = keys[first]
        middle -= low
        images = np.searchsorted(keys >> middle, np.arange(len(self) + 1))
        ngrams = (keys & ((1 << middle) - 1)).astype(np.int32)
        return Counts(images, ngrams, entries, references, counts)

    @cached_property
    def document_frequencies(self) -> DocumentFrequencies:
        """The table of these references themselves, coco-caption's way."""
        counts = tuple(
            np.bincount(count.ngrams, minlength=self.table.size(n)).astype(np.int32)
            for n, count in enumerate(self.counts, 1)
        )
        return DocumentFrequencies(len(self), self.table, counts, self.end_token)

    def norms(self, frequencies: DocumentFrequencies) -> Floats:
        """Lengths of each caption's weighted vectors [C, `ORDER`]; the last table's are kept."""
        if self._norms is None or self._norms[0] is not frequencies:
            squares = np.empty((len(self.lengths), ORDER))
            for n, weights in enumerate(frequencies.weights(self.table)):
                for start in range(0, len(self), _IMAGES):
                    self._add_squares(squares[:, n], weights, self.counts[n], start)
            self._norms = (frequencies, np.sqrt(squares))
        return self._norms[1]

    def _add_squares(self, squares: Floats, weights: Floats, counts: Counts, start: int) -> None:
        """Put the squared lengths of the vectors of `_IMAGES` images into `squares` [C]."""
        end = min(start + _IMAGES, len(self))
        first, last = counts.images[[start, end]].tolist()
        starts: Ints = counts.entries[first : last + 1].astype(np.int64)
        groups = starts[1:] - starts[:-1]
        entries = slice(counts.entries[first], counts.entries[last])
        image = np.repeat(np.arange(start, end), np.diff(counts.images[start : end + 1]))
        caption = np.repeat(self.starts[image], groups) + counts.references[entries]
        weight = counts.counts[entries] * np.repeat(weights[counts.ngrams[first:last]], groups)
        base, after = self.starts[[start, end]].tolist()
        squares[base:after] = np.bincount(caption - base, weight * weight, after - base)


def with_end(line: str) -> str:
    """A tokenised caption with the end token behind it."""
    return f"{line} {END}" if line else END


def _bits(values: int) -> int:
    return max(values - 1, 1).bit_length()


def _small(values: Ints) -> NDArray[np.unsignedinteger]:
    """In the narrowest unsigned integers that hold them."""
    small: NDArray[np.unsignedinteger] = values.astype(
        np.min_scalar_type(int(values.max(initial=0)))
    )
    return small


def _starts_of_runs(values: Ints) -> Ints:
    """The first place of each run of equal values."""
    if len(values) == 0:
        return np.empty(0, np.int64)
    return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
