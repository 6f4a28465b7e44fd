"""The rules of PTB tokenisation: what a token looks like, and what is written for it.

A rule is a regular expression and a function. Where an expression has a group, the group is the
token and what follows it only counts towards the length of the match. Rules found by giving
generated lines to the reference tokeniser and looking at its answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pipeline.metrics.ptb_characters import LETTERS, MARKS, regex_class
from pipeline.metrics.ptb_words import (
    ABBREVIATIONS,
    ABBREVIATIONS_BEFORE_NUMBERS,
    ABBREVIATIONS_IN_CAPITALS,
    FILE_ENDINGS,
    MERGED_WORDS,
    SENTENCE_STARTS,
)

_SIGNS = {
    **{"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"},
    **dict.fromkeys("\u0080\u00a4\u20a0\u20ac", "$"),
    **{"£": "#", "¢": "cents", "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"},
    **{"&amp;": "&", "&lt;": "<", "&gt;": ">", "&mdash;": "--", "&ndash;": "--"},
    **dict.fromkeys("\u0085…", "..."),
    **dict.fromkeys(["--", "---", "----", *"\u0096\u0097–—―"], "--"),
    **dict.fromkeys("\u2010\u2011\u058a", "-"),
    **{'"': "''"},
}
_QUOTES = {
    **dict.fromkeys("`\u0091‘‛‹", "`"),
    **dict.fromkeys("\u0092’›", "'"),
    **dict.fromkeys("\u0093“«", "``"),
    **dict.fromkeys("\u0094”»", "''"),
}


def _lower(token: str) -> str:
    return token.lower()


def _joined(token: str) -> str:
    """Spaces inside a token become no-break spaces, and its round brackets words."""
    return token.lower().replace("(", "-lrb-").replace(")", "-rrb-").replace(" ", "\u00a0")


def _plain_quote(token: str) -> str:
    return token.lower().replace("’", "'").replace("\u0092", "'")


def _ampersand(token: str) -> str:
    return token.lower().replace("&amp;", "&")


def _halves(token: str) -> str:
    return MERGED_WORDS[token.lower()]


def _sign(token: str) -> str:
    return "..." if token.startswith("...") else _SIGNS.get(token.lower(), token)


def _quotes(token: str) -> str:
    return "".join(_QUOTES.get(quote, quote) for quote in token)


def _one_of(words: str) -> str:
    return f"(?:{'|'.join(words.split())})"


_LETTER = "A-Za-z" + regex_class(LETTERS) + regex_class(MARKS)
_L, _A = f"[{_LETTER}]", f"[{_LETTER}0-9]"
_Q = "['’\u0092]"
_CLITIC = "(?i:[sdm]|re|ve|ll)"
_NOT = r"[^\s\"<>|(){}]"
"""A character inside an address."""
_END = r"[^\s\"<>|(){}.!?,-]"
"""An address's last character."""
_CAPITALISED = " ".join(f"{w[0].upper()}(?i:{w[1:]})" for w in ABBREVIATIONS_IN_CAPITALS.split())
_STARTS = " ".join(f"{w.upper()} {w.title()}" for w in SENTENCE_STARTS.split())

Rule = tuple[str, Callable[[str], str]]

_ADDRESSES: list[Rule] = [
    (r"<(?:/?[A-Za-z][\w.:-]*(?: [^<>]*)?/?|[!?][^<>]*)>", _joined),
    (rf"(?i:https?)://{_NOT}+{_END}", _lower),
    (rf"(?:[A-Za-z]{_A}*\.)+(?i:com|net|org|edu)/{_NOT}+{_END}", _lower),
    (rf"<?[A-Za-z0-9]{_NOT}*@(?:[^\s\"<>|(){{}}.]+\.)*[^\s\"<>|(){{}}.]+>?", _lower),
    (r"@[A-Za-z_][A-Za-z_0-9]*", _lower),
    (f"#{_L}+", _lower),
]
_ACROSS_SPACES: list[Rule] = [
    # Fractions and telephone numbers.
    (r"(?:\d{1,4}[- ])?\d{1,4}/\d{1,4}", _joined),
    (r"(?:\(\d{2,3}\) ?|\d{2,3} )\d{3,4}[- ]?\d{4,5}", _joined),
]
_APOSTROPHES: list[Rule] = [
    # A word before a clitic, then the clitics themselves.
    (f"({_L}+?)(?<![nN])[nN][`'’\u0092][tT]", _lower),
    (f"({_A}+(?:[-/]{_A}+)*){_Q}{_CLITIC}(?!{_L})", _lower),
    (f"(?i:{_one_of(' '.join(MERGED_WORDS))})(?!{_A})", _halves),
    ("[nN][`'’\u0092][tT]", _plain_quote),
    (f"'{_CLITIC}(?!{_L})|[’\u0092]{_CLITIC}", _plain_quote),
    # Apostrophes inside words and before them.
    (f"[dlnoDLNO]{_Q}{_L}+|[djlDJL]{_Q}|[yY]{_Q}(?={_L})|(?i:ol){_Q}", _lower),
    (f"[A-HJ-XZ]{_Q}{_L}{_L}+", _lower),
    (f"{_L}+[aeiouyAEIOUY]{_Q}[aeiouA-Z]{_L}*", _lower),
    (f"(?i:c{_Q}est|e{_Q}er|nat{_Q}l|s{_Q}mores)(?!{_L})", _lower),
    (f"{_Q}(?i:em|till?|cause|n{_Q})|'[nN](?!{_L}|[.])|[’\u0092][nN]", _lower),
    (rf"{_Q}(?:[2-9]0[sS](?![A-Za-z0-9])|\d\d(?= |$))", _lower),
]
_FULL_STOPS: list[Rule] = [
    (rf"(?i:{_one_of(ABBREVIATIONS)})\.", _lower),
    (rf"{_one_of(_CAPITALISED)}\.", _lower),
    (rf"(?i:{_one_of(ABBREVIATIONS_BEFORE_NUMBERS)})\.(?= ?\d)", _lower),
    (rf"([A-Za-z])\. +{_one_of(_STARTS)} ", _lower),
    (r"(?:[A-Za-z]\.)+(?:-(?:[A-Za-z]\.)+)*|(?i:ph\.d\.)", _lower),
    (rf"{_A}+\.(?=[,;:])", _lower),
]
_WORDS: list[Rule] = [
    # Alone, or joined by hyphens, slashes, underscores, full stops, ampersands.
    (f"{_A}+(?:[-_\u2010\u2011\u058a]{_A}+)*", _lower),
    (rf"{_A}+(?:[.,]{_A}+)*\.{{0,2}}(?:-{_A}+)+", _lower),
    (f"{_A}+(?:-{_L}{_A}*)*/{_A}+(?:-{_L}{_A}*)*(?:/{_A}+(?:-{_L}{_A}*)*)?", _lower),
    (f"{_L}{_A}*(?:[.!?]{_L}{_A}*)+", _lower),
    (rf"{_A}+\.(?i:{_one_of(FILE_ENDINGS)})(?!{_A})", _lower),
    ("[A-Z]+(?:(?:[&+]|&amp;)[A-Z]+)+", _ampersand),
    (f"(?:{_A}|&[aeiouyAEIOUY](?:acute|grave|uml);)+", _lower),
    (r"[cC]\+\+|[cCfF]#|[A-Z]+\$", _lower),
    (r"[-+]?(?:\d+(?:[.,:\u066b\u066c]\d+)*|(?:[.,:]\d+)+)", _lower),
]
_THE_REST: list[Rule] = [
    # Faces, then signs.
    (r">?[:;=][-o']?[()DPpO\\|@\[\]{](?![A-Za-z0-9])", _joined),
    (r"[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.-]?[-^x=~<>']\)", _joined),
    (r"&#\d+;|(?i:&(?:amp|lt|gt|mdash|ndash);)|<<|>>", _sign),
    (r"\.{3,}|-+|''|[!?]+|\*+|_+|#+|@+|[¹²³⁰⁴-⁹₀-₉]+", _sign),
    ("[`\u0091-\u0094‘-‟‹›«»]{1,2}", _quotes),
    (r"[^ ]", _sign),
]

RULES = [
    (re.compile(pattern), write)
    for rules in (_ADDRESSES, _ACROSS_SPACES, _APOSTROPHES, _FULL_STOPS, _WORDS, _THE_REST)
    for pattern, write in rules
]
"""Every rule, in order of precedence between matches of one length."""
