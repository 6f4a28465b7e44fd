r"""The rules of PTB tokenisation: what a token looks like.

A rule has the characters that it can start with, a regular expression, and the function of
ptb_writing.py for what is written. Where an expression has a group, the group is the token and
what follows it only counts towards the length of the match. Found by giving generated lines to
the reference tokeniser and looking at its answers: for most rules every string of up to five or
six of the characters that it is about, for each character class every character of 16 bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from pipeline.metrics.ptb_characters import DIGITS, LETTERS, MARKS, SYMBOLS, regex_class
from pipeline.metrics.ptb_words import (
    ABBREVIATIONS,
    ABBREVIATIONS_AT_ENDS,
    ABBREVIATIONS_BEFORE_NUMBERS,
    ABBREVIATIONS_NOT_IN_CAPITALS,
    AT_ENDS_NOT_IN_CAPITALS,
    CAPITALISED_AT_ENDS,
    FILE_ENDINGS,
    MERGED_WORDS,
    SENTENCE_STARTS,
)
from pipeline.metrics.ptb_writing import (
    ampersand,
    clitic,
    entity,
    halves,
    joined,
    lower,
    nothing,
    quotes,
    sign,
    spaces_kept,
    word,
)


class Rule(NamedTuple):
    """What a token looks like: its first character, all of it, and what is written for it."""

    first: str
    """The inside of a character class."""
    pattern: str
    write: Callable[[str], str]


def _one_of(words: str) -> str:
    return f"(?:{'|'.join(word.replace('.', '[.]') for word in words.split())})"


def _with_capital(words: str) -> str:
    """The words with a capital first and letters of any case behind it."""
    return _one_of(" ".join(f"{word[0].upper()}(?ai:{word[1:]})" for word in words.split()))


def _not_in_capitals(words: str) -> str:
    """The words with a first letter of any case and small letters behind it."""
    return _one_of(" ".join(f"[{word[0]}{word[0].upper()}]{word[1:]}" for word in words.split()))


FAR = 500
"""Characters: how far ahead a token is looked for where most attempts fail."""

_ASCII = "A-Za-z0-9"
_LETTER = "A-Za-z" + regex_class(LETTERS)
_DIGIT = "0-9" + regex_class(DIGITS)
_MARK = regex_class(MARKS)
_WORD_START = f"{_LETTER}{_MARK}&"
_BLANK = "\t-\r \u00a0\u2000-\u200a\u2028\u2029\u3000"
_SPACE = f"[{_BLANK}\u0085]"

_QUOTE = "(?:['’\u0092]|(?ai:&apos;))"
_INNER_QUOTE = "(?:['`‘’‛\u0091\u0092]|(?ai:&apos;))"
"""Apostrophes around words, and those inside them."""
_CLITIC = "(?ai:[sdm]|re|ve|ll)"
_ACCENTED = "(?ai:&[aeiou](?:acute|grave|uml);)"

_WORD = f"(?:[{_LETTER}{_MARK}]|{_ACCENTED})(?:[{_LETTER}{_DIGIT}{_MARK}]++|{_ACCENTED})*+"
_SENTENCES = f"{_WORD}(?:[.!?]{_WORD})+"
"""`ends.Here` and `fire!water`."""
_PART = f"(?:[dloDLO]{_INNER_QUOTE}[{_LETTER}{_DIGIT}]{{2,}}|[{_LETTER}{_DIGIT}]+)"
_HYPHENATED = f"{_PART}(?:[-_\u2010\u2011\u058a]{_PART})*"
"""`half-eaten`, `IMG_0042`, `jeanne-d'arc`."""
_POINTED = (
    rf"[{_ASCII}][{_ASCII}.,\u00ad]{{0,{FAR}}}"
    rf"(?:-(?:(?:[A-Za-z]\.){{2,}}|[{_ASCII}\u00ad]+))+"
)
"""Full stops and commas before a hyphen: `U.S.-based`, `x-U.S.`."""
_CAPITALS = "[A-Z]+(?:(?:(?ai:&amp;)|[&+])[A-Z]+)+"
"""`AT&T`, and `AT&amp;T`."""

_HYPHENS = f"[{_ASCII}]+(?:-[A-Za-z]+){{0,2}}"
_POINT = ".,:\u00ad\u066b\u066c"
"""What may stand between the digits of a number."""
_AREA = "[0-9]{2,4}[- \u00a0]"
_FILE_PART = f"(?:[{_LETTER}{_DIGIT}{_MARK}]++|{_ACCENTED})++"

_NO_ADDRESS = r"\t-\r \"<>|()"
"""What ends an address."""
_END = rf"[^{_NO_ADDRESS}{{}}.!?,-]"
"""An address's last character."""
_WIDE = "[\U00010000-\U0010ffff]"
"""A character that counts as two, since the original works in 16 bits."""
_PATH = rf"/(?:[^{_NO_ADDRESS}]+{_END}|{_WIDE})"
_HOST = rf"(?ai:www)\.(?:[^{_NO_ADDRESS}{{}}.!?,]{{1,{FAR}}}\.){{1,20}}[A-Za-z]{{2,4}}"
_NO_LABEL = r"\t-\r !\"$'(),-_`{|}"
_MAIL = rf"[^{_NO_ADDRESS}{{}}\u00a0"

_NAME = "[A-Za-z][A-Za-z0-9_.:-]*+"
_VALUE = rf"(?:\"[^\"]{{0,{FAR}}}\"|'[^']{{0,{FAR}}}')"
_TAG = (
    rf"(?:<{_NAME}(?: ++{_NAME}(?: *= *+{_VALUE})?)*+ */? *>|</{_NAME} *>"
    rf"|<[!?][A-Za-z-][^>\n]{{0,{FAR}}}>)"
)

_EYE = "[-^x=~<>']"

_STARTS = _one_of(" ".join(f"{start.upper()} {start.title()}" for start in SENTENCE_STARTS.split()))

_JOINED = [
    # Files before a blank or the end of a clause: 1234.jpg. Then words with inner full stops.
    Rule(
        _WORD_START + _DIGIT,
        rf"{_FILE_PART}(?:\.{_FILE_PART}){{0,20}}\.(?ai:{_one_of(FILE_ENDINGS)})(?=[!,.?]|{_SPACE})",
        lower,
    ),
    Rule(_WORD_START, _SENTENCES, word),
]
_ADDRESSES = [
    # Markup, web and mail addresses, hashtags, @names.
    Rule("<", _TAG, spaces_kept),
    Rule("hH", rf"(?ai:https?)://(?:[^{_NO_ADDRESS}{{}}]+{_END}|{_WIDE})", lower),
    Rule("wW", _HOST, lower),
    Rule("wW", _HOST + _PATH, lower),
    Rule(
        f"^{_NO_LABEL}",
        rf"(?:[^{_NO_LABEL}]{{1,{FAR}}}\.){{1,9}}(?ai:com|net|org|edu)(?:{_PATH})?",
        lower,
    ),
    Rule(
        f"<&{_ASCII}",
        rf"(?:<|(?ai:&lt;))?[{_ASCII}]{_MAIL}]{{0,{FAR}}}@(?:{_MAIL}.]+\.)*{_MAIL}.]+>?",
        lower,
    ),
    Rule("@", "@[A-Za-z_][A-Za-z_0-9]*", lower),
    Rule("#", f"#(?:[{_LETTER}{_MARK}]+|{_ACCENTED})+", lower),
]
_ACROSS_SPACES = [
    # Fractions, dates and telephone numbers: 1 1/2, 1/12-99, (555) 123-4567, +44 20 1234 5678.
    Rule(
        _DIGIT,
        rf"(?:[{_DIGIT}]{{1,4}}[- \u00a0])?[{_DIGIT}]{{1,4}}(?:\\?/|⁄)[{_DIGIT}]{{1,4}}",
        joined,
    ),
    Rule(_DIGIT, rf"[{_DIGIT}]{{1,2}}[-/][{_DIGIT}]{{1,2}}[-/][{_DIGIT}]{{2,4}}", lower),
    Rule(
        "+(0-9",
        rf"(?:\([0-9]{{2,3}}\)[ \u00a0]?|\+{{0,2}}(?:{_AREA})?{_AREA})"
        r"[0-9]{3,4}[- \u00a0]?[0-9]{3,5}",
        joined,
    ),
]
_APOSTROPHES = [
    # A word before a clitic, then the clitics themselves.
    Rule(
        "A-Za-z\u00ad",
        rf"([A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*)[nN]{_INNER_QUOTE}[tT]",
        word,
    ),
    Rule(_WORD_START, f"({_WORD}(?:[.!?]{_WORD})*){_QUOTE}{_CLITIC}", word),
    Rule("nN", f"[nN]{_INNER_QUOTE}[tT]", clitic),
    Rule("'", "'(?ai:[sdm](?![A-Za-z])|(?:re|ve|ll)(?=[^A-Za-z]))", clitic),
    Rule("’\u0092&", f"(?!'){_QUOTE}{_CLITIC}", clitic),
    # Two words in one: cannot, 'tis.
    Rule("CGLWcglw", f"(?ai:{_one_of(' '.join(MERGED_WORDS))})", halves),
    Rule("'", "('[tT])(?ai:is|was)", lower),
    # Inside words: O'Neil, o'o, d', y'all, ma'am, and words known by name.
    Rule("A-HJ-XZn", f"[A-HJ-XZn]{_INNER_QUOTE}[{_LETTER}]{{2,}}", lower),
    Rule("oO", f"[oO]{_INNER_QUOTE}[oO]", lower),
    Rule("djloDJLO", f"(?ai:[djl]|ol){_QUOTE}", lower),
    Rule("yY", f"[yY]{_QUOTE}(?=[{_LETTER}])", lower),
    Rule(_LETTER, f"[{_LETTER}]+[aeiouyAEIOUY]{_INNER_QUOTE}[aeiouA-Z][{_LETTER}]*", lower),
    Rule("cdsCDS", f"(?ai:c{_QUOTE}est|cap{_QUOTE}n|(?:dunk|someth)in{_QUOTE})", lower),
    Rule("celnsCELNS", "(?ai:c'mon|e'er|ev'ry|li'l|nat'l|s'mores)", lower),
    # Before words: 'em, 'n', 'n before a blank, '90s, '99 before a blank.
    Rule("'’\u0092&", f"{_QUOTE}(?ai:em|till?|cause|n{_QUOTE})", lower),
    Rule("'", "'[nN](?=[\t-\r \u00a0]|\\Z)", lower),
    Rule("’\u0092&", f"(?!'){_QUOTE}[nN]", lower),
    Rule("'’\u0092&", f"{_QUOTE}(?:[2-9]0[sS]|[0-9]{{2}}(?={_SPACE}))", lower),
]
_FULL_STOPS = [
    # Abbreviations; those at ends need two characters more, to win over words that hold them.
    Rule("A-Za-z", rf"(?ai:{_one_of(ABBREVIATIONS)})\.", lower),
    Rule("Mm", rf"{_not_in_capitals(ABBREVIATIONS_NOT_IN_CAPITALS)}\.", lower),
    Rule("A-Za-z", rf"((?ai:{_one_of(ABBREVIATIONS_AT_ENDS)})\.)[\s\S]{{0,2}}", lower),
    Rule("Pp", rf"({_not_in_capitals(AT_ENDS_NOT_IN_CAPITALS)}\.)[\s\S]{{0,2}}", lower),
    Rule("A-Z", rf"({_with_capital(CAPITALISED_AT_ENDS)}\.)[\s\S]{{0,2}}", lower),
    Rule(
        "A-Za-z",
        rf"((?ai:{_one_of(ABBREVIATIONS_BEFORE_NUMBERS)})\.){_SPACE}?[{_DIGIT}]",
        lower,
    ),
    # A letter that ends a sentence, initials, and full stops before other punctuation.
    Rule("A-Za-z", rf"([A-Za-z])\.{_SPACE}+(?:{_STARTS}|{_TAG}){_SPACE}", lower),
    Rule("A-Za-z", r"(?:[A-Za-z]\.)+", lower),
    *(
        Rule(_WORD_START + _DIGIT, rf"({words}\.)[,;:、]", ampersand)
        for words in (_WORD, _SENTENCES, _HYPHENATED, _POINTED, _CAPITALS)
    ),
]
_WORDS = [
    Rule(_WORD_START, _WORD, word),
    Rule(_LETTER + _DIGIT, _HYPHENATED, lower),
    Rule(_ASCII, _POINTED, word),
    Rule(_ASCII, rf"{_HYPHENS}\\?/{_HYPHENS}(?:\\?/{_HYPHENS})?", lower),
    Rule("A-Z", _CAPITALS, ampersand),
    Rule("sS", "(?ai:s(?:&amp;|&)ls)", ampersand),
    Rule("A-Za-z", r"[cC]\+\+|[cCfF]#|[A-Z]+\$|(?ai:anti|pro)-", lower),
    Rule(f"-+{_POINT}{_DIGIT}", f"[-+]?[{_POINT}]?[{_DIGIT}]+(?:[{_POINT}][{_DIGIT}]+)*", word),
]
_SIGNS = [
    # Faces, entities, blanks, runs of one sign, single signs.
    Rule("<>:;=", r"[<>]?[:;=][-o'*]?[()DdPpO\\|@\[\]{](?=[^A-Za-z0-9])", joined),
    Rule("-^x=~<>'(", rf"{_EYE}_{_EYE}|\({_EYE}[_.]?{_EYE}\)", joined),
    Rule("(", r"\([\^x=~<>']-[\^x=~<>'`]\)", joined),
    Rule("&", r"&#[0-9]+;|(?ai:&(?:amp|lt|gt|nbsp|[mn]dash|md);)", entity),
    Rule("&", "(?ai:&(?:[co]dq|ht|lr|q[clr]|tl|ur);)", lower),
    Rule("&", "(?ai:&(?:quot|apos);)", sign),
    Rule(_BLANK, f"[{_BLANK}]+", nothing),
    Rule("-", "(?ai:-[lr][rcs]b-)|-+", sign),
    Rule(r".\\", r"\.{3,5}|\.(?:[ \u00a0]\.){2,4}|(?:\\\*){1,3}", sign),
    Rule("'!?<>*_#@", "''|[!?]+|<<|>>|[*]+|_+|#+|@+", sign),
    Rule("¹²³⁰⁴-⁻₀-₋", "[⁺⁻₊₋]?(?:[¹²³⁰⁴-⁹]+|[₀-₉]+)", sign),
    Rule("`\u0091-\u0094‘-‟‹›«»", "[`\u0091-\u0094‘-‟‹›«»]{1,2}", quotes),
    Rule(f"!-~{regex_class(SYMBOLS)}", f"[!-~{regex_class(SYMBOLS)}]", sign),
]

_RULES = [*_JOINED, *_ADDRESSES, *_ACROSS_SPACES, *_APOSTROPHES, *_FULL_STOPS, *_WORDS, *_SIGNS]
_BEYOND_ASCII = [regex_class(ranges) for ranges in (LETTERS, DIGITS, MARKS, SYMBOLS)]


def _ascii_only(pattern: str) -> str:
    for ranges in _BEYOND_ASCII:
        pattern = pattern.replace(ranges, "")
    return pattern


class Matchers(dict[str, list[tuple[re.Pattern[str], Callable[[str], str]]]]):
    """The rules by a token's first character, in order of precedence between equal lengths.

    Filled as characters come. For text that is all ASCII the rules are the same without the
    tables of ptb_characters.py: compiling those takes a tenth of a second.
    """

    def __init__(self, *, ascii_only: bool) -> None:
        super().__init__()
        self._rules = [
            Rule(_ascii_only(rule.first), _ascii_only(rule.pattern), rule.write)
            if ascii_only
            else rule
            for rule in _RULES
        ]

    def __missing__(self, character: str) -> list[tuple[re.Pattern[str], Callable[[str], str]]]:
        self[character] = [
            (re.compile(rule.pattern), rule.write)
            for rule in self._rules
            if re.match(f"[{rule.first}]", character)
        ]
        return self[character]
