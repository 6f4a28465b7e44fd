"""What PTB tokenisation writes for a token that ptb_rules.py found: one function a manner.

Everything is in lower case, as the reference tokeniser's `-lowerCase` has it.
"""

from __future__ import annotations

import re

from pipeline.metrics.ptb_words import MERGED_WORDS

_SIGNS = {
    **{"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"},
    **dict.fromkeys("\u0080\u00a4\u20a0\u20ac", "$"),
    **{"£": "#", "¢": "cents", "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"},
    **dict.fromkeys("\u0085…", "..."),
    **dict.fromkeys(["--", "---", "----", *"\u0096\u0097–—―"], "--"),
    **dict.fromkeys("\u2010\u2011\u058a", "-"),
    **{"&quot;": "''", '"': "''", "&apos;": "'"},
}
_ENTITIES = {
    **{"&amp;": "&", "&lt;": "<", "&gt;": ">", "&nbsp;": ""},
    **{"&mdash;": "--", "&md;": "--", "&ndash;": "--"},
}
_QUOTES = {
    **dict.fromkeys("`\u0091‘‛‹", "`"),
    **dict.fromkeys("\u0092’›", "'"),
    **dict.fromkeys("\u0093“«", "``"),
    **dict.fromkeys("\u0094”»", "''"),
}

_SIGMA_WORD = re.compile(r"(?:[\w\u0300-\u036f]|(?<=[^\W\d])[-.'](?=[^\W\d]))+")


def lower(token: str) -> str:
    """The token itself."""
    if "Σ" in token:
        token = _SIGMA_WORD.sub(_sigmas, token)
    return token.lower()


def _sigmas(run: re.Match[str]) -> str:
    """A word whose Σ is small: the one of ends where it is the last of several cased letters.

    Python asks only about the letters beside it.
    """
    cased = [letter for letter in run[0] if letter.lower() != letter.upper()]
    text = run[0].replace("Σ", "σ")
    if len(cased) < 2 or cased[-1] != "Σ":
        return text
    last = text.rindex("σ")
    return f"{text[:last]}ς{text[last + 1 :]}"


def word(token: str) -> str:
    """Less its soft hyphens, which leave a word whole; alone they are a hyphen."""
    return lower(token.replace("\u00ad", "")) or "-"


def halves(token: str) -> str:
    """`cannot` as two tokens."""
    return MERGED_WORDS[token.lower()]


def ampersand(token: str) -> str:
    """A word that may hold `&amp;`."""
    return word(token).replace("&amp;", "&")


def clitic(token: str) -> str:
    """Closing quotes become `'`, opening ones a backquote, in `'s` and `n't`."""
    return quotes(token.replace("&apos;", "'")).lower()


def quotes(token: str) -> str:
    """Quotation marks of every kind as ASCII ones."""
    return "".join(_QUOTES.get(quote, quote) for quote in token)


def nothing(_: str) -> str:
    """No token at all: blanks."""
    return ""


def spaces_kept(token: str) -> str:
    """Spaces inside a token become no-break spaces: markup."""
    return lower(token).replace(" ", "\u00a0")


def joined(token: str) -> str:
    """The same, and round brackets become words: telephone numbers and faces."""
    return spaces_kept(token).replace("(", "-lrb-").replace(")", "-rrb-")


def entity(token: str) -> str:
    """What an HTML entity stands for, in any case of letters."""
    return _ENTITIES.get(token.lower(), token.lower())


def sign(token: str) -> str:
    """Brackets, money, fractions, dashes, quotes; other signs are themselves."""
    if token[0] == ".":
        return "..." if len(token) > 1 else "."
    return _SIGNS.get(token, token.lower())
