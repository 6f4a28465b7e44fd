"""Penn Treebank tokenisation of captions, as coco-caption's scores need it, without Java.

`tokenize` gives what pycocoevalcap's PTBTokenizer gives: CoreNLP 3.4.1's tokens of each line in
lower case, less coco-caption's list of punctuation. Written from the behaviour of that program
(its answers to generated lines) and from the published description of Penn Treebank
tokenisation; none of its source was read.

How it works: at each place in a line the rule (ptb_rules.py) that matches the longest text wins,
the earlier one on a tie. Most captions are plain words, so the tokens of a piece between two
spaces are remembered; only lines whose tokens may depend on what follows a space (digits, markup,
initials) are read whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.metrics.ptb_characters import LETTERS, MARKS, SYMBOLS, characters
from pipeline.metrics.ptb_rules import RULES

VERSION = 1
"""Raised whenever a token of any line changes; part of every score's signature."""

PUNCTUATION = frozenset(
    {"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:-;", "--", "..."}
)
"""Tokens that coco-caption drops. Brackets survive: lower-casing has made them `-lrb-`."""

_REMEMBERED = 100_000
"""Pieces whose tokens are kept; the memory is emptied when it is full."""

_LONGEST_REMEMBERED = 64
"""Characters: longer pieces do not come again."""

_PLAIN = re.compile(r"[ -~]*")
_WHOLE_LINE = re.compile(r"[\d<]|(?<![A-Za-z.])[A-Za-z]\.(?: |$)")
_INITIAL_LAST = re.compile(r"(?<![A-Za-z.])[A-Za-z]\.\s*$")
_ENTITIES = {"&quot;": '"', "&apos;": "'", "&nbsp;": " "}


class _KeptCharacters(dict[int, str]):
    """A table for str.translate: characters that the rules know stay, others become spaces."""

    def __init__(self) -> None:
        super().__init__({0xAD: ""})  # A soft hyphen leaves its word whole.
        self.kept = characters(LETTERS) | characters(MARKS) | characters(SYMBOLS)

    def __missing__(self, point: int) -> str:
        return chr(point) if 0x20 <= point < 0x7F or point in self.kept else " "


_KEPT = _KeptCharacters()
_remembered: dict[str, str] = {}


def tokenize(lines: Iterable[str]) -> list[str]:
    """The tokens of each line, lower case, joined by single spaces; an empty line stays empty.

    A token may hold a no-break space, as the fraction in `1 1/2 cups` does. Line breaks inside a
    line count as spaces. As in the original, a line that ends in an initial (`vitamin C.`) keeps
    its full stop in the token or not by the first word of the line after it.
    """
    lines = list(lines)
    return [_line(line, _following(lines, index)) for index, line in enumerate(lines)]


def _following(lines: list[str], index: int) -> str:
    """The first word of the next line, where the tokens of this one depend on it."""
    if _INITIAL_LAST.search(lines[index]):
        for line in lines[index + 1 :]:
            if words := line.split(maxsplit=1):
                return words[0]
    return ""


def _line(line: str, following: str) -> str:
    if not _PLAIN.fullmatch(line):
        line = line.translate(_KEPT)
    if "&" in line:
        for entity, text in _ENTITIES.items():
            line = line.replace(entity, text)
    if _WHOLE_LINE.search(line):
        return _scan(f"{line} {following} ", len(line))
    tokens = [
        _remembered[piece] if piece in _remembered else _piece(piece) for piece in line.split(" ")
    ]
    return " ".join(filter(None, tokens))


def _piece(piece: str) -> str:
    tokens = _scan(piece, len(piece))
    if len(piece) <= _LONGEST_REMEMBERED:
        if len(_remembered) >= _REMEMBERED:
            _remembered.clear()
        _remembered[piece] = tokens
    return tokens


def _scan(text: str, end: int) -> str:
    """The tokens that start before `end`: the longest match at each place, spaces skipped."""
    tokens = []
    at = 0
    while at < end:
        if text[at] == " ":
            at += 1
            continue
        longest, token, written = 0, "", ""
        for pattern, write in RULES:
            match = pattern.match(text, at)
            if match is not None and match.end() - at > longest:
                longest, token = match.end() - at, match[match.lastindex or 0]
                written = write(token)
        at += len(token)
        if written not in PUNCTUATION:
            tokens.append(written)
    return " ".join(tokens)
