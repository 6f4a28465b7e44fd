"""Small corpora on which the metrics are compared with pycocoevalcap's, kind by kind.

`cases(kind, number, seed)` gives the same on every run. A corpus is a few images with their
references and a hypothesis each; a kind makes one of the ways in which real files are odd certain
instead of rare. Every corpus has at least one word in its references: without any pycocoevalcap's
CIDEr raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

WORDS = (  # noqa: SIM905  more easily read than a list
    "a the two on in of with and is are man woman dog cat horse boy girl people street table "
    "red white small sitting standing riding playing holding looking ball water grass plate "
    "train bus kite t-shirt isn't man's 2 50% café black-and-white and/or"
).split()
UNKNOWN = ("zebra", "trombone", "quasar", "unheard-of", "frobnicates", "naïveté", "1 1/2")
"""The last is one token with a no-break space in it, which parts words for all but ROUGE-L."""
PUNCTUATION = (".", "?", "!", ",", "...", "--", "-", ";", ":", ". . .", "!?", '"', "( )", "''")
ENDINGS = ("", "", ".", ".", " .", "!", "...")


class Case(NamedTuple):
    """One corpus."""

    references: list[list[str]]
    """Of each image."""
    hypotheses: list[str]
    """One an image."""


def caption(rng: Random, fewest: int = 1, most: int = 12) -> str:
    """Words, the common ones more often, and perhaps punctuation behind them."""
    some = [WORDS[min(rng.randrange(len(WORDS)), rng.randrange(len(WORDS)))] for _ in range(most)]
    text = " ".join(some[: rng.randint(fewest, most)]).capitalize()
    # A full stop behind a single letter is read by the line after it, of whichever corpus.
    return text + (" ." if text.endswith(" a") or text == "A" else rng.choice(ENDINGS))


def near(rng: Random, text: str) -> str:
    """A caption that shares n-grams with `text`: words of it lost, doubled, swapped or replaced."""
    words = text.split()
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(words)) if words else 0
        match rng.randrange(4):
            case 0:
                del words[place : place + 1]
            case 1:
                words.insert(place, words[place] if words else "a")
            case 2:
                words[place : place + 2] = reversed(words[place : place + 2])
            case 3:
                words[place : place + 1] = [rng.choice(WORDS)]
    return " ".join(words)


def images(rng: Random, fewest: int = 1, most: int = 6) -> list[list[str]]:
    """References: often like one another, as people's captions of one picture are."""
    corpus = []
    for _ in range(rng.randint(fewest, most)):
        first = caption(rng)
        more = range(rng.randrange(5))
        likeness = rng.random()
        corpus.append(
            [first, *(near(rng, first) if rng.random() < likeness else caption(rng) for _ in more)]
        )
    return corpus


def answers(rng: Random, references: list[list[str]]) -> list[str]:
    """A hypothesis an image: like a reference of it, like another image's, or of its own."""
    return [
        rng.choice(
            [
                near(rng, rng.choice(own)),
                near(rng, rng.choice(rng.choice(references))),
                caption(rng),
            ]
        )
        for own in references
    ]


def mixed(rng: Random) -> Case:
    """Anything, the odd things now and then."""
    references = images(rng)
    hypotheses = answers(rng, references)
    for place, own in enumerate(references):
        odd = rng.random()
        if odd < 0.05:
            hypotheses[place] = ""
        elif odd < 0.1:
            hypotheses[place] = rng.choice(own)
        elif odd < 0.13:
            hypotheses[place] = rng.choice(PUNCTUATION)
        elif odd < 0.16:
            own.append("")
    return Case(references, hypotheses)


def one_image(rng: Random) -> Case:
    """All document frequencies are then 1 of 1, and CIDEr-D is 0."""
    references = images(rng, 1, 1)
    return Case(references, answers(rng, references))


def one_reference(rng: Random) -> Case:
    """A single reference an image."""
    references = [own[:1] for own in images(rng)]
    return Case(references, answers(rng, references))


def identical(rng: Random) -> Case:
    """Hypotheses that are a reference, all references one text, or all images alike."""
    references = images(rng)
    kind = rng.randrange(3)
    if kind == 1:
        references = [[own[0]] * len(own) for own in references]
    elif kind == 2:
        references = [list(references[0]) for _ in references]
    return Case(references, [rng.choice(own) for own in references])


def empty(rng: Random) -> Case:
    """Empty hypotheses, some or all."""
    references = images(rng)
    share = rng.choice([0.5, 1.0])
    filled = answers(rng, references)
    return Case(references, ["" if rng.random() < share else text for text in filled])


def unequal(rng: Random) -> Case:
    """One reference beside dozens."""
    references = [[caption(rng) for _ in range(rng.choice([1, 2, 5, 7, 40]))] for _ in range(4)]
    return Case(references, answers(rng, references))


def unknown(rng: Random) -> Case:
    """Words that no reference has, among known ones or alone."""
    references = images(rng)
    hypotheses = [
        " ".join(
            rng.choice(UNKNOWN if rng.random() < 0.6 else WORDS) for _ in range(rng.randint(1, 9))
        )
        for _ in references
    ]
    return Case(references, hypotheses)


def repeated(rng: Random) -> Case:
    """Few words, many times over, as captioners that got stuck write them."""
    few = rng.sample(WORDS, 2)

    def stuck() -> str:
        return " ".join(rng.choice(few[: rng.randint(1, 2)]) for _ in range(rng.randint(1, 30)))

    references = [[stuck() for _ in range(rng.randint(1, 4))] for _ in range(rng.randint(1, 4))]
    return Case(references, [stuck() for _ in references])


def long(rng: Random) -> Case:
    """Up to 200 words, past the bits of a machine word."""
    references = [
        [caption(rng, 1, rng.choice([20, 64, 65, 200])) for _ in range(rng.randint(1, 3))]
        for _ in range(rng.randint(1, 3))
    ]
    hypotheses = [
        near(rng, own[0]) if rng.random() < 0.5 else caption(rng, 40, 200) for own in references
    ]
    return Case(references, hypotheses)


def punctuation(rng: Random) -> Case:
    """Hypotheses of punctuation alone, and references of it beside others."""
    references = images(rng)
    for own in references:
        if rng.random() < 0.3:
            own.append(rng.choice(PUNCTUATION))
    return Case(references, [rng.choice(PUNCTUATION) for _ in references])


KINDS: dict[str, Callable[[Random], Case]] = {
    "mixed": mixed,
    "one image": one_image,
    "one reference": one_reference,
    "identical texts": identical,
    "empty hypotheses": empty,
    "unequal numbers of references": unequal,
    "unknown words": unknown,
    "repeated words": repeated,
    "very long": long,
    "punctuation only": punctuation,
}


def cases(kind: str, number: int, seed: int = 0) -> Iterator[Case]:
    """`number` corpora of a kind."""
    rng = Random(f"{kind} {seed}")
    for _ in range(number):
        yield KINDS[kind](rng)
