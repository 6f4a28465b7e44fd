"""ROUGE-L as coco-caption computes it.

Lin, 'ROUGE: A Package for Automatic Evaluation of Summaries' (2004), section 3, with
coco-caption's choices: beta = 1.2, and the best precision and the best recall taken over the
references independently of each other. Knows only tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BETA = 1.2


@dataclass(frozen=True, slots=True)
class RougeReference:
    """One reference: its length and, for each token, a bit set at each of its places."""

    length: int
    places: dict[str, int]


def prepare(tokens: Sequence[str]) -> RougeReference:
    """A reference, from its tokens."""
    places: dict[str, int] = {}
    for place, token in enumerate(tokens):
        places[token] = places.get(token, 0) | 1 << place
    return RougeReference(len(tokens), places)


def longest_common_subsequence(reference: RougeReference, tokens: Sequence[str]) -> int:
    """Length of the longest common subsequence, a row of the usual table as one integer.

    Hyyrö, 'Bit-Parallel LCS-length Computation Revisited' (2004): a bit is clear where
    the table's row steps up by one, so the cleared bits of the last row are the length.
    """
    full = (1 << reference.length) - 1
    row = full
    for token in tokens:
        steps = row & reference.places.get(token, 0)
        row = ((row + steps) | (row - steps)) & full
    return reference.length - row.bit_count()


def rouge_l(references: Sequence[RougeReference], tokens: Sequence[str]) -> float:
    """ROUGE-L of one hypothesis, in 0..1.

    With P the best of LCS / hypothesis length and R the best of LCS / reference length over the
    references: (1 + beta^2) * P * R / (R + beta^2 * P); 0 if nothing is in common (Lin, eq. 4).
    """
    common = [longest_common_subsequence(reference, tokens) for reference in references]
    precision = max(common) / len(tokens)
    recall = max(
        length / reference.length for length, reference in zip(common, references, strict=True)
    )
    if precision == 0 or recall == 0:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)
