"""Generates the lines on which the tokeniser is compared with pycocoevalcap's, class by class.

`lines(name, count, seed)` is the same on every run of one seed. Each line of a class holds at
least one of that class's constructs (tokeniser_templates.txt, which explains its own format), at
any place of a caption and often beside punctuation or a construct of another class. Three classes
are made from all the others: mixtures of constructs, constructs with a few characters changed,
and characters by chance. Line breaks are left out: no caption file holds them inside a line, and
pycocoevalcap would answer for two lines.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from random import Random

_TEMPLATES = Path(__file__).with_name("tokeniser_templates.txt")
_PLACE = re.compile(r"%(?:([A-Za-z]+\d?)|#(\d)(?:-(\d))?|~([0-9a-f]+)-([0-9a-f]+))%")
_NUMBERED = re.compile(r"\\u([0-9a-f]{4})")
_LINE_BREAKS = dict.fromkeys(map(ord, "\n\r\v\f\u2028\u2029"), " ")
_WHOLE_LINES = {"web text", "plain captions"}
"""Classes whose constructs are lines already; the others are set into a caption."""
_BY_CHANCE = (
    "aeinsdtmoABCDLNOSTUY0123456789.,;:!?'\"-_/\\@#$%&*()[]{}<>|+=~^`    "
    "’‘“”–—…é£€½©™\u00a0\u00ad\u0301日д٣"
)
_PLANES = ((0x20, 0x7E), (0xA0, 0x24F), (0x250, 0x6FF), (0x900, 0xFFF), (0x2000, 0x2BFF))
_MORE_PLANES = ((0x3000, 0x30FF), (0xF900, 0xFFFF), (0x1F000, 0x1FFFF), (0x80, 0xD7FF))


def _read() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The named lists and the classes' templates."""
    named: dict[str, list[str]] = {}
    classes: dict[str, list[str]] = {}
    current: list[str] = []
    _, _, text = _TEMPLATES.read_text(encoding="utf-8").partition("\n\n")
    for line in text.split("\n"):
        line = _NUMBERED.sub(lambda number: chr(int(number[1], 16)), line)  # noqa: PLW2901
        name, _, items = line.partition(" ")
        if line.startswith("## "):
            current = classes[items] = []
        elif re.fullmatch("@[a-z]+2?", name) and items:
            named[name[1:]] = [item.replace("␣", " ") for item in items.split(" ") if item]
        elif line:
            current.append(line)
    return named, classes


_NAMED, _CLASSES = _read()
CLASSES = [*_CLASSES, "mixtures", "damaged", "characters"]
"""The classes, by the names that the comparison prints."""

_INSERTED = [name for name in _CLASSES if name not in _WHOLE_LINES]


def _filled(rng: Random, template: str) -> str:
    def fill(place: re.Match[str]) -> str:
        name, fewest, most, first, last = place.groups()
        if first:
            points = (rng.randint(int(first, 16), int(last, 16)) for _ in range(rng.randint(1, 6)))
            return "".join(map(chr, points))
        if fewest:
            count = rng.randint(int(fewest), int(most or fewest))
            return "".join(rng.choice("0123456789") for _ in range(count))
        if name.lower() not in _NAMED:
            return place[0]
        text = _filled(rng, rng.choice(_NAMED[name.lower()]))
        if name.islower():
            return text
        return text.upper() if name.isupper() else text.title()

    return _PLACE.sub(fill, template)


def construct(rng: Random, name: str) -> str:
    """One construct of a class."""
    text = _filled(rng, rng.choice(_CLASSES[name]))
    chance = rng.random()
    if chance < 0.1:
        text = text.upper() if chance < 0.05 else text.title()
    if name == "accents" and chance > 0.6:
        text = unicodedata.normalize(rng.choice(("NFD", "NFKD")), text)
    return text


def _damaged(rng: Random) -> str:
    characters = list(f"{construct(rng, rng.choice(_INSERTED))} {construct(rng, 'web text')}")
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(characters))
        kind = rng.randrange(3)
        characters[at : at + min(kind, 1)] = [rng.choice(_BY_CHANCE)] * (kind != 2)
        characters = characters or ["a"]
    return "".join(characters)


def _characters(rng: Random) -> str:
    if rng.random() < 0.5:
        return "".join(rng.choice(_BY_CHANCE) for _ in range(rng.randint(3, 14)))
    points = (rng.randint(*rng.choice(_PLANES + _MORE_PLANES)) for _ in range(rng.randint(3, 12)))
    return "".join(map(chr, points))


def _mixture(rng: Random) -> str:
    parts = [construct(rng, rng.choice(_INSERTED)) for _ in range(rng.randint(2, 5))]
    return rng.choice(["", " ", "", "-", "/", ".", ",", "'", ", "]).join(parts)


def _in_a_caption(rng: Random, name: str) -> str:
    text = construct(rng, name)
    if rng.random() < 0.08:
        text = rng.choice("\"'(“‘[") + text + rng.choice("\"')”’].,!?")
    if rng.random() < 0.06:
        text += rng.choice(".,;:!?'\")-/")
    if rng.random() < 0.15:
        other = construct(rng, rng.choice(_INSERTED))
        joint = rng.choice((" ", " ", " ", ", ", " and ", "", "/", "-"))
        text = joint.join((text, other) if rng.random() < 0.5 else (other, text))
    before = _filled(rng, "%words% ") if rng.random() < 0.7 else ""
    after = _filled(rng, " %words%") if rng.random() < 0.65 else ""
    return before + text + after + rng.choice(("", "", ".", ".", " .", "!", "?", " "))


def _line(rng: Random, name: str) -> str:
    if name == "mixtures":
        return _mixture(rng)
    if name == "damaged":
        return _damaged(rng)
    if name == "characters":
        return _characters(rng)
    return construct(rng, name) if name in _WHOLE_LINES else _in_a_caption(rng, name)


def lines(name: str, count: int, seed: int = 0) -> list[str]:
    """`count` different lines of one class."""
    rng = Random(f"{name} {seed}")
    found: dict[str, None] = {}
    while len(found) < count:
        line = _line(rng, name).translate(_LINE_BREAKS)
        if line.strip():
            found[line] = None
    return list(found)
