"""What the generated pictures show: two or three coloured shapes in a relation.

Knows neither pixels nor words. A scene can be told in one order only, and that order can
be seen in the picture (the larger shape first, else the left or upper one; the inner or the
front one), so that a model can learn which shape a caption begins with.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

SHAPES = ("circle", "square", "triangle", "star", "cross")
COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SIZES = ("large", "small")
BACKGROUNDS = ("light", "dark")
PAIR_RELATIONS = ("left of", "right of", "above", "below", "inside", "overlapping")
TRIPLE_RELATIONS = ("row", "column")

TRIPLE_SHARE = 0.2
MOST_SCENES = 20_000
"""Of the 37,500 there are: nearer to all of them random draws mostly repeat."""


@dataclass(frozen=True)
class Thing:
    """One shape."""

    shape: str
    colour: str
    size: str


@dataclass(frozen=True)
class Scene:
    """Things in a relation: the first is `relation` the second.

    Rows run from left to right, columns from top to bottom.
    """

    relation: str
    things: tuple[Thing, ...]
    background: str

    @property
    def identity(self) -> tuple[str, tuple[Thing, ...]]:
        """What no two pictures share; the background is not part of it."""
        return self.relation, self.things


def distinct_scenes(random: Random) -> Iterator[Scene]:
    """Scenes without end, each identity once (take at most `MOST_SCENES`)."""
    seen = set()
    for _ in itertools.count():
        scene = _scene(random)
        if scene.identity not in seen:
            seen.add(scene.identity)
            yield scene


def _scene(random: Random) -> Scene:
    triple = random.random() < TRIPLE_SHARE
    relation = random.choice(TRIPLE_RELATIONS if triple else PAIR_RELATIONS)
    things = tuple(
        Thing(random.choice(SHAPES), colour, size)
        for colour, size in zip(
            random.sample(COLOURS, 3 if triple else 2), _sizes(relation, random), strict=True
        )
    )
    return Scene(relation, things, random.choice(BACKGROUNDS))


def _sizes(relation: str, random: Random) -> tuple[str, ...]:
    if relation in TRIPLE_RELATIONS:
        return ("small",) * 3
    if relation == "inside":
        return "small", "large"
    if relation == "overlapping":
        return "large", "large"
    if relation in ("right of", "below"):
        # Of equal shapes the left or upper one is told first, so only a larger one is here.
        return "large", "small"
    return random.choice((("large", "large"), ("small", "small"), ("large", "small")))
