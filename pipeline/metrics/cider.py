"""CIDEr-D, and the document frequencies that weigh its n-grams.

Vedantam, Zitnick and Parikh, 'CIDEr: Consensus-based Image Description Evaluation' (CVPR 2015),
in its form CIDEr-D (no stemming, counts clipped, a Gaussian penalty on the difference of lengths),
as coco-caption computes it. Knows only counted n-grams.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pipeline import storage
from pipeline.errors import DataError
from pipeline.metrics.ngrams import ORDER, Ngram

SIGMA = 6.0
"""Width of the penalty on the difference of lengths, in bigrams."""

FORMAT = "captionmill document frequencies 1"


@dataclass(frozen=True)
class DocumentFrequencies:
    """In the references of how many images each n-gram occurs, out of how many images.

    It does not grow: scoring with a table leaves it as it was. Two ways of use give two
    different numbers and are never mixed: a table made of the references being scored (as
    coco-caption does), or a stored one of the training split.
    """

    images: int
    counts: dict[Ngram, int]

    @classmethod
    def of(cls, references: Iterable[Iterable[Iterable[Ngram]]]) -> Self:
        """Count the n-grams of each image's references, once an image."""
        images = 0
        counts: Counter[Ngram] = Counter()
        for image in references:
            images += 1
            counts.update({ngram for reference in image for ngram in reference})
        return cls(images, dict(counts))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of the table, whatever order it was counted in."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @cached_property
    def weights(self) -> dict[Ngram, float]:
        """Inverse document frequency of each n-gram: ln(images) - ln(max(1, frequency))."""
        ceiling = self.unseen
        logs = {count: math.log(max(1, count)) for count in set(self.counts.values())}
        return {ngram: ceiling - logs[count] for ngram, count in self.counts.items()}

    @property
    def unseen(self) -> float:
        """Inverse document frequency of an n-gram in no reference: ln(images)."""
        return math.log(self.images)

    def save(self, path: Path) -> None:
        """Commit the table as JSON text."""
        storage.commit(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a table that `save` wrote.

        Raises:
            DataError: the file is absent or no such table; names it.
        """
        try:
            table: Any = storage.read_json(path)
            if table["format"] != FORMAT:
                raise ValueError(f"its format is {table['format']!r}, not {FORMAT!r}")
            counts = {tuple(text.split(" ")): int(count) for text, count in table["counts"].items()}
            images = int(table["images"])
            if not 1 <= max(counts.values(), default=1) <= images:
                raise ValueError(f"its counts do not fit {images} images")
            return cls(images, counts)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"cannot read document frequencies from {path}: {error}; make them again by "
                "training, or score with those of the references"
            ) from error

    def to_json(self) -> str:
        """The table as JSON text, the same for the same table; what `save` writes."""
        counts = {" ".join(ngram): count for ngram, count in self.counts.items()}
        table = {"format": FORMAT, "images": self.images, "counts": counts}
        return json.dumps(table, sort_keys=True, ensure_ascii=False, indent=0) + "\n"


Entry = tuple[int, float]
"""(reference's place, weight of the n-gram in it)"""


@dataclass(frozen=True, slots=True)
class CiderReferences:
    """One image's references as weighted vectors.

    `entries` gives for each n-gram the references that hold it with their weights; `norms[r][n]`
    is the length of reference r's vector of (n+1)-grams; `bigrams[r]` its number of bigrams.
    """

    entries: dict[Ngram, list[Entry]]
    norms: list[list[float]]
    bigrams: list[int]


def prepare(counts: Sequence[Counter[Ngram]], frequencies: DocumentFrequencies) -> CiderReferences:
    """The vectors of one image's references, from each reference's n-gram counts."""
    entries: dict[Ngram, list[Entry]] = {}
    norms: list[list[float]] = []
    for place, reference in enumerate(counts):
        squares = [0.0] * ORDER
        for ngram, weight in _vector(reference, frequencies).items():
            squares[len(ngram) - 1] += weight * weight
            entries.setdefault(ngram, []).append((place, weight))
        norms.append([math.sqrt(square) for square in squares])
    return CiderReferences(entries, norms, [_bigrams(reference) for reference in counts])


def _vector(counts: Counter[Ngram], frequencies: DocumentFrequencies) -> dict[Ngram, float]:
    """Term count times inverse document frequency of each n-gram (CIDEr, equation 1)."""
    weights, unseen = frequencies.weights, frequencies.unseen
    return {ngram: count * weights.get(ngram, unseen) for ngram, count in counts.items()}


def _bigrams(counts: Counter[Ngram]) -> int:
    return sum(count for ngram, count in counts.items() if len(ngram) == 2)


def cider_d(
    counts: Counter[Ngram], references: CiderReferences, frequencies: DocumentFrequencies
) -> float:
    """CIDEr-D of one hypothesis, in 0..10.

    With g_n the vectors of n-grams (equation 1) and l the numbers of bigrams, the mean over the
    references r and over n = 1..4 of 10 * exp(-(l_h - l_r)^2 / (2 * 6^2)) *
    sum(min(g_h, g_r) * g_r) / (|g_h| * |g_r|) (the paper's definition of CIDEr-D).
    The paper's length is in tokens; the released code counts bigrams, and so does this.
    """
    squares = [0.0] * ORDER
    products = [[0.0] * ORDER for _ in references.norms]
    entries = references.entries
    for ngram, weight in _vector(counts, frequencies).items():
        n = len(ngram) - 1
        squares[n] += weight * weight
        for place, other in entries.get(ngram, ()):
            products[place][n] += min(weight, other) * other
    norms = [math.sqrt(square) for square in squares]
    length = _bigrams(counts)
    score = 0.0
    for product, others, bigrams in zip(
        products, references.norms, references.bigrams, strict=True
    ):
        penalty = math.exp(-((length - bigrams) ** 2) / (2 * SIGMA**2))
        for n in range(ORDER):
            if product[n]:
                score += penalty * product[n] / (norms[n] * others[n])
    return 10.0 * score / (ORDER * len(references.norms))
