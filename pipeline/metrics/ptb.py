"""Penn Treebank tokenisation of captions, as coco-caption's scores need it, without Java.

`tokenize` gives what pycocoevalcap's PTBTokenizer gives: CoreNLP 3.4.1's tokens of each line in
lower case, less its list of punctuation. Written from the behaviour of that program (its answers
to generated lines) and from the published description of Penn Treebank tokenisation; none of its
source was read. It knows no language beyond the rules below and no other line than its own.

How it works: at each place in a line the rule that matches the longest text wins, the earlier one
on a tie. Most captions are plain words, so the tokens of a piece between two spaces are
remembered; only lines with digits or markup, whose tokens may cross spaces, are read whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from pipeline.metrics.ptb_characters import (
    LETTERS,
    MARKS,
    SYMBOLS,
    characters,
    regex_class,
)
from pipeline.metrics.ptb_words import (
    ABBREVIATIONS,
    ABBREVIATIONS_BEFORE_NUMBERS,
    ABBREVIATIONS_IN_CAPITALS,
    FILE_ENDINGS,
    MERGED_WORDS,
    SENTENCE_STARTS,
)

VERSION = 1
"""Raised whenever a token of any line changes; part of every score's signature."""

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-"]
    + ["--", "...", ";"]
)
"""Tokens that coco-caption drops. Brackets survive: lower-casing has made them `-lrb-`."""

_REMEMBERED = 200_000
"""Pieces of text whose tokens are kept; the memory is emptied when it is full."""

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_MEANT = {
    **_BRACKETS,
    **dict.fromkeys("\u0080\u00a4\u20a0\u20ac", "$"),
    "£": "#",
    "¢": "cents",
    "¼": "1/4",
    "½": "1/2",
    "¾": "3/4",
    "⅓": "1/3",
    "⅔": "2/3",
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
}
_DROPPED = frozenset(
    "'`.?!,:-;\"\u0085\u0091\u0092\u0093\u0094\u0096\u0097"
    "\u2010\u2011\u058a\u2013\u2014\u2015\u2026‘’‛‹›“”«»"
) | {"''", "``", "--", "...", "&mdash;", "&ndash;"}


def _lower(text: str) -> str:
    return text.lower()


def _meaning(text: str) -> str:
    if text in _DROPPED:
        return ""
    return _MEANT.get(text.lower(), text)


def _joined(text: str) -> str:
    """A token with spaces inside: they become no-break spaces, its round brackets words."""
    return text.lower().replace("(", "-lrb-").replace(")", "-rrb-").replace(" ", "\u00a0")


def _plain_quote(text: str) -> str:
    return text.lower().replace("’", "'").replace("\u0092", "'")


def _ampersand(text: str) -> str:
    return text.lower().replace("&amp;", "&")


def _halves(text: str) -> str:
    first, second = MERGED_WORDS[text.lower()]
    return f"{first} {second}"


def _rules() -> list[tuple[re.Pattern[str], Callable[[str], str]]]:
    """(pattern, what to write) in order of precedence; a group is the token, if there is one."""
    letter = "A-Za-z" + regex_class(LETTERS) + regex_class(MARKS)
    L, A = f"[{letter}]", f"[{letter}0-9]"
    Q = "['’\u0092]"
    clitic = "(?:[sdm]|re|ve|ll)"
    number = r"(?:\d+(?:[.,:\u066b\u066c]\d+)*|(?:[.,:]\d+)+)"
    not_url = r"\s\"<>|(){}"
    alternatives = "|".join
    texts: list[tuple[str, Callable[[str], str]]] = [
        # Markup and addresses.
        (r"<(?:[A-Za-z!?]|/[A-Za-z])[^<>]*>", _joined),
        (rf"(?i:https?)://[^{not_url}]+[^{not_url}.!?,-]", _lower),
        (rf"(?:[A-Za-z]{A}*\.)+(?i:com|net|org|edu)/[^{not_url}]+[^{not_url}.!?,-]", _lower),
        (rf"<?[A-Za-z0-9][^{not_url}]*@(?:[^{not_url}.]+\.)*[^{not_url}.]+>?", _lower),
        (r"@[A-Za-z_][A-Za-z_0-9]*", _lower),
        (f"#{L}+", _lower),
        # Fractions and telephone numbers may cross spaces.
        (r"(?:\d{1,4} )?\d{1,4}/\d{1,4}", _joined),
        (r"(?:\(\d{2,3}\) ?|\d{2,3} )\d{3,4}[- ]?\d{4,5}", _joined),
        # A word before a clitic; the clitic's own text counts for the length of the match.
        (f"({L}+?)[nN][`'’\u0092][tT]", _lower),
        (f"({A}+(?:[-/]{A}+)*){Q}(?i:{clitic})(?!{L})", _lower),
        (f"(?i:{alternatives(MERGED_WORDS)})(?!{A})", _halves),
        # Words with an apostrophe inside or before them.
        (f"[nN][`'’\u0092][tT]", _plain_quote),
        (f"'(?i:{clitic})(?!{L})|[’\u0092](?i:{clitic})", _plain_quote),
        (f"[dlnoDLNO]{Q}{L}+|[djlDJL]{Q}|[yY]{Q}(?={L})|(?i:ol){Q}", _lower),
        (f"{L}+[aeiouyAEIOUY]{Q}[aeiouA-Z]{L}*", _lower),
        (f"(?i:c{Q}est|e{Q}er|nat{Q}l|s{Q}mores)(?!{L})", _lower),
        (f"{Q}(?i:em|till?|cause|[nN]{Q})|'[nN](?!{L})|[’\u0092][nN]", _lower),
        (rf"{Q}(?:[2-9]0s|\d\d)(?![{letter}0-9-])", _lower),
        # Abbreviations and acronyms with their full stops.
        (rf"(?i:{alternatives(ABBREVIATIONS)})\.", _lower),
        (rf"(?:{alternatives(f'{w[0].upper()}(?i:{w[1:]})' for w in ABBREVIATIONS_IN_CAPITALS)})\.", _lower),
        (rf"(?i:{alternatives(ABBREVIATIONS_BEFORE_NUMBERS)})\.(?= ?\d)", _lower),
        (rf"([A-Za-z])\. +(?:{alternatives(f'{w.upper()}|{w.title()}' for w in SENTENCE_STARTS)}) ", _lower),
        (r"(?:[A-Za-z]\.)+", _lower),
        # Words, alone or joined by hyphens, slashes, underscores, full stops or ampersands.
        (f"{A}+(?:[-_\u2010\u2011\u058a]{A}+)*", _lower),
        (rf"{A}+(?:[.,]{A}+)*\.?(?:-{A}+)+", _lower),
        (f"{A}+(?:-{A}+)*/{A}+(?:-{L}{A}*)*(?:/{A}+(?:-{L}{A}*)*)?", _lower),
        (f"{L}{A}*(?:[.!?]{L}{A}*)+", _lower),
        (rf"{A}+\.(?i:{alternatives(FILE_ENDINGS)})(?!{A})", _lower),
        ("[A-Z]+(?:(?:&|&amp;)[A-Z]+)+", _ampersand),
        (f"(?:{A}|&[aeiouyAEIOUY](?:acute|grave|uml);)+", _lower),
        (r"[cC]\+\+|[cCfF]#|[A-Z]+\$", _lower),
        (f"[-+]?{number}", _lower),
        # Faces.
        (r">?[:;=][-o']?[()DPpO\\|@\[\]{](?![A-Za-z0-9])", _joined),
        (r"\(?[-^x=~<>]_+[-^x=~<>]\)?", _joined),
        # Signs.
        (r"&#\d+;|(?i:&(?:amp|lt|gt|mdash|ndash);)|<<|>>", _meaning),
        (r"\.{3}|-{2,}|''|``|[!?]+|\*+|_+|#+|@+|[¹²³⁰⁴-⁹₀-₉]+", _meaning),
        (r"\S", _meaning),
    ]
    return [(re.compile(pattern), write) for pattern, write in texts]


_RULES = _rules()
_PLAIN = re.compile(r"[ -~]*")
_WHOLE_LINE = re.compile(r"[\d<]|(?<![A-Za-z.])[A-Za-z]\.(?: |$)")
_INITIAL_LAST = re.compile(r"(?<![A-Za-z.])[A-Za-z]\.\s*$")


class _KeptCharacters(dict[int, str]):
    """A table for str.translate: characters that the rules know stay, others become spaces."""

    def __init__(self) -> None:
        super().__init__({0xAD: ""})
        self.kept = characters(LETTERS) | characters(MARKS) | characters(SYMBOLS)

    def __missing__(self, point: int) -> str:
        known = 0x20 <= point < 0x7F or point in self.kept
        return chr(point) if known else " "


_KEPT = _KeptCharacters()
_ENTITIES = {"&quot;": '"', "&apos;": "'", "&nbsp;": " "}
_remembered: dict[str, str] = {}


def tokenize(lines: Iterable[str]) -> list[str]:
    """The tokens of each line, lower case, joined by single spaces; an empty line stays empty.

    Line breaks inside a line count as spaces (the original tokeniser would shift every later
    caption by a line there). A token may hold a no-break space, as `1 1/2` does.
    """
    lines = list(lines)
    return [_line(line, _following(lines, index)) for index, line in enumerate(lines)]


def _following(lines: list[str], index: int) -> str:
    """The first word of the next line, where the tokens of this one depend on it."""
    if _INITIAL_LAST.search(lines[index]):
        for line in lines[index + 1 :]:
            if words := line.split():
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
    tokens = []
    for piece in line.split():
        known = _remembered.get(piece)
        if known is None:
            if len(_remembered) >= _REMEMBERED:
                _remembered.clear()
            known = _remembered[piece] = _scan(piece, len(piece))
        if known:
            tokens.append(known)
    return " ".join(tokens)


def _scan(text: str, end: int) -> str:
    """The tokens that start before `end`: the longest match at each place, spaces skipped."""
    tokens = []
    at = 0
    while at < end:
        if text[at] == " ":
            at += 1
            continue
        best, token, write = 0, "", _lower
        for pattern, writes in _RULES:
            match = pattern.match(text, at)
            if match is not None and match.end() - at > best:
                best, token, write = match.end() - at, match[match.lastindex or 0], writes
        at += len(token)
        written = write(token)
        if written and written not in PUNCTUATION:
            tokens.append(written)
    return " ".join(tokens)
