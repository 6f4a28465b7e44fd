"""What a set of captions looks like, whatever the references say; knows only text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pipeline.metrics import ptb

NGRAM = 3
"""Words in a row that a caption should not have twice."""


def repeats(caption: str) -> bool:
    """Whether a tokenised caption says something twice.

    That is a word or a pair of words again at once ('a dog dog', 'in a in a'), or any three
    words in a row a second time.
    """
    words = caption.split()
    for size in (1, 2):
        runs = zip(words, words[size:], strict=False)
        same = 0
        for one, other in runs:
            same = same + 1 if one == other else 0
            if same == size:
                return True
    threes = [tuple(words[i : i + NGRAM]) for i in range(len(words) - NGRAM + 1)]
    return len(set(threes)) < len(threes)


def length_and_vocabulary(captions: Sequence[str]) -> tuple[float, int]:
    """Mean words a caption and the number of different words, of untokenised captions."""
    lines = [line.split() for line in ptb.tokenize(list(captions))]
    words = sum(map(len, lines))
    return words / max(len(lines), 1), len({word for line in lines for word in line})


def repeated_share(captions: Sequence[str]) -> float:
    """Share of untokenised captions that say something twice."""
    lines = ptb.tokenize(list(captions))
    return sum(map(repeats, lines)) / max(len(lines), 1)


def shared_share(captions: Sequence[str]) -> float:
    """Share of captions that stand under more than one picture."""
    counts = Counter(captions)
    return sum(count for count in counts.values() if count > 1) / max(len(captions), 1)
