"""Tokenised captions as arrays: word ids, and every distinct n-gram numbered once.

BLEU and CIDEr-D count the same n-grams; numbering them lets both work on whole corpora with a
few sorts instead of a dictionary a caption.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ORDER = 4
"""Longest n-gram of both metrics."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
_CHUNK = 10_000
"""Captions split into words at once; the words' strings are not kept."""


class Captions(NamedTuple):
    """C tokenised captions, one after the other."""

    words: list[str]
    """The distinct words, sorted."""
    tokens: NDArray[np.int32]
    """Ids of all words of all captions [T]: places in `words`."""
    lengths: Ints
    """Words of each caption [C]."""


class _Places(dict[str, int]):
    """Words numbered as they come."""

    def __missing__(self, word: str) -> int:
        place = self[word] = len(self)
        return place


def read_captions(lines: Sequence[str]) -> Captions:
    """Captions as `ptb.tokenize` gives them: tokens between white space."""
    places = _Places()
    lengths: list[int] = []
    parts = []
    for start in range(0, len(lines), _CHUNK):
        split = [line.split() for line in lines[start : start + _CHUNK]]
        sizes = list(map(len, split))
        ids = map(places.__getitem__, chain.from_iterable(split))
        parts.append(np.fromiter(ids, np.int32, sum(sizes)))
        lengths += sizes
    words = sorted(places)
    # Sorted, so that a sum over a caption's n-grams has one order whatever other captions are
    # counted with it: an image's score is then the same to the last bit.
    rank = np.empty(len(words), np.int32)
    rank[[places[word] for word in words]] = np.arange(len(words))
    tokens = np.concatenate(parts) if parts else np.empty(0, np.int32)
    return Captions(words, rank[tokens], np.array(lengths, np.int64))


@dataclass(frozen=True, eq=False)
class NgramTable:
    """Distinct n-grams of 1 to `ORDER` words, numbered from 0 in each order apart.

    A word's number is its place in `words`. A longer n-gram's is the place of its code in
    `codes[n - 2]`, where the code is (number of the n-gram without its last word) * len(words)
    + (number of the last word). With sorted words the numbers follow from the n-grams alone.
    """

    words: list[str]
    codes: tuple[Ints, ...]

    def __len__(self) -> int:
        return sum(map(self.size, range(1, ORDER + 1)))

    @cached_property
    def places(self) -> dict[str, int]:
        """Each word's number."""
        return {word: place for place, word in enumerate(self.words)}

    def size(self, n: int) -> int:
        """How many distinct n-grams of `n` words there are."""
        return len(self.words) if n == 1 else len(self.codes[n - 2])

    def find(self, ngram: Sequence[str]) -> int:
        """The number of one n-gram of 1 to `ORDER` words; -1 if it is not here."""
        place = np.array([self.places.get(ngram[0], -1)])
        for codes, word in zip(self.codes, ngram[1:], strict=False):
            last = np.array([self.places.get(word, -1)])
            place = _find(codes, place, last, len(self.words))
        return int(place[0])

    def locate(self, other: NgramTable) -> Iterator[Ints]:
        """For n = 1 to `ORDER` in turn, the numbers here of `other`'s n-grams; -1 for unknown ones."""
        if other is self:
            yield from (np.arange(self.size(n)) for n in range(1, ORDER + 1))
            return
        words = np.fromiter(
            (self.places.get(word, -1) for word in other.words), np.int64, len(other.words)
        )
        found = words
        yield found
        for own, theirs in zip(self.codes, other.codes, strict=True):
            parents, lasts = np.divmod(theirs, max(len(other.words), 1))
            found = _find(own, found[parents], words[lasts], len(self.words))
            yield found


def _find(codes: Ints, parents: Ints, lasts: Ints, words: int) -> Ints:
    wanted = parents * words + lasts
    if len(codes) == 0:
        return np.full(len(wanted), -1)
    places = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    here = (codes[places] == wanted) & (parents >= 0) & (lasts >= 0)
    found: Ints = np.where(here, places, -1)
    return found


class Occurrences(NamedTuple):
    """Every n-gram of one order in the captions' order [P], and the codes of the distinct ones.

    Half-width integers: a training split has millions.
    """

    size: int
    """How many distinct ones there are."""
    codes: Ints
    """See `NgramTable`; of no use for single words, which are their own numbers."""
    captions: NDArray[np.int32]
    """Which caption each is in."""
    ngrams: NDArray[np.int32]
    """Its number."""


def number_ngrams(captions: Captions) -> Iterator[Occurrences]:
    """Number the distinct n-grams, and say where each occurs, for n = 1 to `ORDER` in turn."""
    words, tokens, lengths = captions
    caption = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    # How many words a place has from it to its caption's end, itself counted.
    left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(tokens))
    places, ngrams = np.arange(len(tokens), dtype=np.int32), tokens
    yield Occurrences(len(words), np.empty(0, np.int64), caption, tokens)
    for n in range(2, ORDER + 1):
        longer = left[places] >= n
        places = places[longer]
        code = ngrams[longer].astype(np.int64) * len(words) + tokens[places + (n - 1)]
        distinct, inverse = np.unique(code, return_inverse=True)
        ngrams = inverse.astype(np.int32)
        yield Occurrences(len(distinct), distinct, caption[places], ngrams)


def make_table(captions: Captions, codes: Sequence[Ints]) -> NgramTable:
    """The table of numbered captions, from the codes of each order (those of n = 1 are skipped)."""
    return NgramTable(captions.words, tuple(codes[1:]))


def ranges(starts: Ints, lengths: Ints) -> Ints:
    """The numbers start..start+length-1 of each range, one range after the other."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    numbers: Ints = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return numbers


def offsets(lengths: Iterable[int] | Ints) -> Ints:
    """Where each of consecutive runs starts, and where the last one ends [N + 1]."""
    sizes = np.asarray(list(lengths) if not isinstance(lengths, np.ndarray) else lengths)
    return np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
