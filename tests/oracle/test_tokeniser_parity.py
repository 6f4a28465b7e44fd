"""The tokeniser's answers are pycocoevalcap's on a reduced corpus, asked for afresh.

tests/oracle/tokeniser_parity.py compares more lines, and real captions. tests/metrics/test_ptb.py
holds frozen answers, for where there is no Java.
"""

from __future__ import annotations

import re
import shutil
from random import Random

import pytest

pytest.importorskip("pycocoevalcap", reason="needs pycocoevalcap: pip install 'captionmill[dev]'")

import tokeniser_corpus
import tokeniser_parity

from pipeline.metrics import ptb

LINES = 400
NEEDS_JAVA = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")


@NEEDS_JAVA
def test_generated_lines_of_every_class():
    different = {}
    for name in tokeniser_corpus.CLASSES:
        lines = tokeniser_corpus.lines(name, LINES, seed=1)
        different[name] = tokeniser_parity.differences(lines)
        share = tokeniser_parity.identical(LINES, len(different[name]))
        assert share >= tokeniser_parity.LEAST_OF_A_CLASS, (name, different[name][:5])
    total = sum(map(len, different.values()))
    share = tokeniser_parity.identical(LINES * len(different), total)
    assert share >= tokeniser_parity.LEAST_OF_ALL, different


@NEEDS_JAVA
def test_the_comparison_notices_wrong_tokens(monkeypatch):
    monkeypatch.setattr(ptb, "tokenize", lambda lines: [line.lower() for line in lines])
    found = tokeniser_parity.differences(["a dog", "A man's hat.", "", "a cat"])
    assert found == [("A man's hat.", "a man's hat.", "a man 's hat")]


def test_classes_hold_different_lines_the_same_on_every_run():
    for name in tokeniser_corpus.CLASSES:
        lines = tokeniser_corpus.lines(name, 200)
        assert len(set(lines)) == 200
        assert lines == tokeniser_corpus.lines(name, 200) != tokeniser_corpus.lines(name, 200, 1)
        assert not any(set(line) & set("\n\r\v\f\u2028\u2029") for line in lines)
        assert all(line.strip() for line in lines)


BEYOND_ASCII = "[\u0080-\U0010ffff]"
FEATURES = {
    "contractions": r"['’‘`´ʼ′＇‛\u0092&]|cannot|gonna|gotta|wanna|\w{4,}[ao]\b|innit|betcha|wannabe|gimme|lemme|imma",
    "possessives": r"['’´`ʼ\u0092&]",
    "abbreviations with full stops": r"\.",
    "numbers": r"[\d₂¹⁻³²]",
    "dates": r"\d",
    "times": r"\d|quarter|half",
    "currency": rf"\$|cents|rs|eur|usd|gbp|kr|&|{BEYOND_ASCII}",
    "fractions": r"[½¼¾⅐-⅞]|\d ?\\?[/⁄∕] ?\d|frac",
    "URLs": r"www|[./]|yahoo!",
    "e-mail addresses": r"@|＠|\bat\b",
    "hashtags": r"[#@＃＠]",
    "ellipses": r"\.|[…⋯。‥․\u0085]|hellip",
    "dashes": rf"[-_=~>&]|{BEYOND_ASCII}",
    "quotes": rf"[\"'`&\\]|{BEYOND_ASCII}",
    "brackets": rf"[][(){{}}<>]|-[lr]rb-|{BEYOND_ASCII}|[:;=8.,/xd]",
    "slashes": r"[/\\|⁄∕／¦]|&#47;",
    "ampersands": r"[&+＆﹠⅋]|'n'",
    "HTML entities and markup": r"[&<>[{]",
    "accents": BEYOND_ASCII,
    "non-Latin scripts": BEYOND_ASCII,
    "emoji": rf"{BEYOND_ASCII}|[:;=<>()^_.o0xt8-]",
    "control characters": rf"[\x00-\x1f\x7f]|{BEYOND_ASCII}",
    "web text": r"\w",
    "plain captions": r"[a-z]",
}


@pytest.mark.parametrize("name", FEATURES)
def test_lines_hold_their_class(name):
    feature = re.compile(FEATURES[name], re.IGNORECASE)
    rng = Random(5)
    constructs = [tokeniser_corpus.construct(rng, name) for _ in range(2000)]
    assert [text for text in constructs if not feature.search(text)] == []


def test_every_class_is_listed():
    assert [*FEATURES, "mixtures", "damaged", "characters"] == tokeniser_corpus.CLASSES


def test_every_list_that_a_template_names_is_there():
    templates = [*tokeniser_corpus._CLASSES.values(), *tokeniser_corpus._NAMED.values()]
    named = {name.lower() for name in re.findall("%([A-Za-z]{2,}2?)%", str(templates))}
    assert named - set(tokeniser_corpus._NAMED) == set()
