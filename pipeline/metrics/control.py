"""A control for scores: captions moved to other pictures, which must cost most of the score."""

from __future__ import annotations

import random


def displaced(items: list[str]) -> list[str]:
    """Each item at another's place: a seeded permutation without fixed points."""
    order = list(range(len(items)))
    random.Random(0).shuffle(order)  # noqa: S311  a control, not a secret
    moved = list(items)
    for place, giver in zip(order, [*order[1:], *order[:1]], strict=True):
        moved[place] = items[giver]
    return moved
