"""Counting a tokenised caption's n-grams, as BLEU and CIDEr-D share it."""

from __future__ import annotations

from collections import Counter

ORDER = 4
"""Longest n-gram of both metrics."""

Ngram = tuple[str, ...]


def ngram_counts(tokens: list[str]) -> Counter[Ngram]:
    """How often each n-gram of 1 to `ORDER` tokens occurs."""
    runs = [tokens[n:] for n in range(min(ORDER, len(tokens)))]
    counts: Counter[Ngram] = Counter()
    for n in range(1, len(runs) + 1):
        counts.update(zip(*runs[:n], strict=False))
    return counts
