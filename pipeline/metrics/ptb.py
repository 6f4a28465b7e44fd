"""Penn Treebank tokenisation of captions, as coco-caption's scores need it, without Java.

`tokenize` gives what pycocoevalcap's PTBTokenizer gives: CoreNLP 3.4.1's tokens of each line in
lower case, less coco-caption's list of punctuation. Written from the behaviour of that program
(its answers to generated lines) and from the published description of Penn Treebank
tokenisation; none of its source was read.

How it works: at each place in a line the rule (ptb_rules.py) that matches the longest text wins,
the earlier one on a tie. Most captions are plain words, so the tokens of a piece between two
spaces are remembered; only lines whose tokens may depend on what follows a space (numbers,
markup, initials) are read whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipeline.metrics.ptb_rules import Matchers
from pipeline.metrics.ptb_words import ABBREVIATIONS_BEFORE_NUMBERS, NOT_PLAIN

VERSION = 2
"""Raised whenever a token of any line changes; part of every score's signature."""

PUNCTUATION = frozenset(
    {"''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", *".?!,:-;", "--", "..."}
)
"""Tokens that coco-caption drops. Brackets survive: lower-casing has made them `-lrb-`."""

_REMEMBERED = 100_000
"""Pieces whose tokens are kept; the memory is emptied when it is full."""

_LONGEST_REMEMBERED = 64
"""Characters: longer pieces do not come again."""

_PLAIN = re.compile("([A-Za-z]+)[.,]?")
_OPEN_END = rf"(?:(?<![A-Za-z])(?:[A-Za-z]|(?ai:{'|'.join(ABBREVIATIONS_BEFORE_NUMBERS.split())}))|['’\u0092;&+][A-Za-z0-9]+)\."
"""An initial or the abbreviation of a number, whose full stop depends on what follows, or letters
behind an apostrophe or `&`, of which the last may be an initial."""
_OPEN_LINE = re.compile(rf"{_OPEN_END}\s*$")
_CROSSES_SPACES = re.compile(rf"\.*\d|.*[<\s]|.*{_OPEN_END}$", re.DOTALL)
_LINE_BREAKS = dict.fromkeys(map(ord, "\n\r\v\f\u2028\u2029"), " ")


class _Pieces(dict[str, str | None]):
    """The tokens of pieces between spaces; None where they depend on what is beyond the space."""

    def __missing__(self, piece: str) -> str | None:
        tokens = None if _CROSSES_SPACES.match(piece) else _piece(piece)
        if len(piece) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[piece] = tokens
        return tokens


_pieces = _Pieces()
_matchers = {ascii_only: Matchers(ascii_only=ascii_only) for ascii_only in (True, False)}


def tokenize(lines: Iterable[str]) -> list[str]:
    """The tokens of each line, lower case, joined by single spaces; an empty line stays empty.

    A token may hold a no-break space, as the fraction in `1 1/2 cups` does. Line breaks inside a
    line count as spaces. As in the original, a line that ends in an initial (`vitamin C.`) keeps
    its full stop in the token or not by what the next line starts with, and tokens that need a
    character behind them (`'99`, `1234.jpg`) are not recognised at the end of the last line.
    """
    lines = list(lines)
    tokenized = []
    for index, line in enumerate(lines):
        pieces = [_pieces[piece] for piece in line.split(" ")]
        if None in pieces or index == len(lines) - 1:
            line = line.translate(_LINE_BREAKS)  # noqa: PLW2901
            tokenized.append(_scan(line + _following(lines, index), len(line)))
        else:
            tokenized.append(" ".join(filter(None, pieces)))
    return tokenized


def _following(lines: list[str], index: int) -> str:
    """What follows a line, as far as the first text where its tokens depend on that."""
    if index == len(lines) - 1:
        return ""
    if not _OPEN_LINE.search(lines[index]):
        return "\n "
    text = next((i for i in range(index + 1, len(lines)) if lines[i].strip()), index)
    return "\n" + "\n".join([*lines[index + 1 : text + 1], ""])


def _piece(piece: str) -> str:
    plain = _PLAIN.fullmatch(piece)
    if plain and (word := plain[1].lower()) not in NOT_PLAIN:
        return word
    return _scan(f"{piece}\n ", len(piece))


def _scan(text: str, end: int) -> str:
    """The tokens that start before `end`: the longest match at each place, the rest skipped."""
    matchers = _matchers[text.isascii()]
    tokens = []
    at, last = 0, ""
    while at < end:
        longest, token, writer = 0, text[at], None
        for pattern, write in matchers[token]:
            match = pattern.match(text, at)
            if match is not None and match.end() - at > longest:
                longest, token, writer = match.end() - at, match[match.lastindex or 0], write
        at += len(token)
        if writer is not None and (written := writer(token)):
            last = written
            if written not in PUNCTUATION:
                tokens.append(written)
    if tokens and tokens[-1] is last:
        tokens[-1] = last.rstrip()  # pycocoevalcap strips each line, and so its last token.
    return " ".join(tokens)
