"""A scene told five times, each time in other words, from a small grammar.

Knows no pixels. Which shape comes first is the scene's own order in nearly all wordings.
"""

from __future__ import annotations

from random import Random

from pipeline.demo.scenes import Scene, Thing

CAPTIONS = 5

# {a} {b} {c}: with size; {A} {B} {C}: without; {the_a} {the_b}: definite; {where}: the
# relation; {near}: the same in other words.
_PAIRS = (
    "{a} {where} {b}",
    "there is {a} {where} {b}",
    "{A} {where} {B} on a {background} background",
    "{the_a} is {near} {the_b}",
    "a picture of {A} {near} {B}",
    "a {background} picture with {a} {near} {b}",
)
_RELATIONS = {
    "left of": ("to the left of", "left of", "{A} and {B} side by side"),
    "right of": ("to the right of", "right of", "{A} and {B} side by side"),
    "above": ("above", "over", "{A} on top and {B} at the bottom"),
    "below": ("below", "under", "{A} at the bottom and {B} on top"),
    "inside": ("inside", "in", "{A} with {B} around it"),
    "overlapping": ("overlapping", "in front of", "{A} that covers part of {B}"),
}
_TRIPLES: dict[str, tuple[str, ...]] = {
    "row": (
        "{A}, {B} and {C} in a row",
        "from left to right {A}, {B} and {C}",
        "{A} on the left, {B} in the middle and {C} on the right",
        "there is {B} between {A} and {C}",
        "three shapes side by side with {B} in the middle",
        "a row of {A}, {B} and {C} on a {background} background",
    ),
    "column": (
        "{A}, {B} and {C} in a column",
        "from top to bottom {A}, {B} and {C}",
        "{A} on top, {B} in the middle and {C} at the bottom",
        "there is {B} between {A} above and {C} below",
        "three shapes over each other with {B} in the middle",
        "a column of {A}, {B} and {C} on a {background} background",
    ),
}


def captions(scene: Scene, random: Random) -> list[str]:
    """`CAPTIONS` true captions of `scene`, no two alike."""
    words = {"background": scene.background}
    for letter, thing in zip("abc", scene.things, strict=False):
        words[letter] = _article(f"{thing.size} {_name(thing)}")
        words[letter.upper()] = _article(_name(thing))
        words[f"the_{letter}"] = f"the {_name(thing)}"
    wordings = _TRIPLES.get(scene.relation)
    if wordings is None:
        words["where"], words["near"], own = _RELATIONS[scene.relation]
        wordings = (*_PAIRS, own)
    return [wording.format(**words) for wording in random.sample(wordings, CAPTIONS)]


def _name(thing: Thing) -> str:
    return f"{thing.colour} {thing.shape}"


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
