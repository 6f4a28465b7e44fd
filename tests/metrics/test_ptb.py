"""The tokeniser against frozen answers of pycocoevalcap's own, and the rules around it.

ptb_answers.json holds lines written for it, 40 generated ones of each class of
tests/oracle/tokeniser_corpus.py, and what pycocoevalcap 1.2 (CoreNLP 3.4.1) gave for them, all in
one call and in this order (tests/oracle/tokeniser_parity.py --freeze).
"""

import json
from pathlib import Path

import pytest

from pipeline.metrics import ptb

ANSWERS = json.loads(Path(__file__).with_name("ptb_answers.json").read_text(encoding="utf-8"))
LINES = [line for line, _ in ANSWERS]
TOKENIZED = ptb.tokenize([*LINES, "end"])[:-1]  # Asked with a line behind them.


def test_tokens_are_those_of_pycocoevalcap():
    answers = [
        (line, tokens, ours) for (line, tokens), ours in zip(ANSWERS, TOKENIZED, strict=True)
    ]
    assert [answer for answer in answers if answer[1] != answer[2]] == []


def test_the_table_is_as_large_as_promised():
    assert len(set(LINES)) == len(LINES) >= 1250


@pytest.mark.parametrize(
    ("line", "tokens"),
    [
        ("A man isn't here.", "a man is n't here"),
        ("cannot gonna", "can not gon na"),
        ("50% of £5, €6 and ½", "50 % of # 5 $ 6 and 1/2"),
        ("(a) [b] {c}", "-lrb- a -rrb- -lsb- b -rsb- -lcb- c -rcb-"),
        ("a half-eaten and/or old dog 😀", "a half-eaten and/or old dog"),
        ("1 1/2 cups", "1\u00a01/2 cups"),
        ("Mr. Smith sits.", "mr. smith sits"),
        ("ΕΛΛΑΣ ΣΑΣ-ΑΣ ΑΣ/ΣΑ ΕΛΛΑΣ_plate Σ", "ελλας σασ-ας ας / σα ελλασ_plate σ"),
        ("www.ab.org/x?y=1, a@b.c!", "www.ab.org/x?y=1 a@b.c!"),
        ("", ""),
        (" \t ", ""),
    ],
)
def test_facts_of_the_tokeniser(line, tokens):
    assert ptb.tokenize([line]) == [tokens]


def test_a_line_break_inside_a_caption_does_not_shift_the_others():
    for character in "\n\r\v\f\u2028\u2029":
        assert ptb.tokenize([f"a dog{character}runs", "a cat"]) == ["a dog runs", "a cat"]


def test_an_initial_at_the_end_depends_on_the_next_line_as_in_the_original():
    assert ptb.tokenize(["vitamin C.", "A man"]) == ["vitamin c", "a man"]
    assert ptb.tokenize(["vitamin C.", "", "The man"]) == ["vitamin c", "", "the man"]
    assert ptb.tokenize(["vitamin C.", "men"]) == ["vitamin c.", "men"]
    assert ptb.tokenize(["vitamin C."]) == ["vitamin c."]


def test_the_last_line_has_nothing_behind_its_tokens_as_in_the_original():
    """pycocoevalcap's answers to these lines, each the last of a call."""
    for line, last, before in [
        ("photo '99", "photo 99", "photo '99"),
        ("see 1.jpg", "see 1 jpg", "see 1.jpg"),
        ("they'll", "they ll", "they 'll"),
        ("nice :)", "nice -rrb-", "nice :-rrb-"),
        ("Co.b", "co.b", "co. b"),
        ("etc.", "etc.", "etc."),
    ]:
        assert ptb.tokenize([line]) == [last]
        assert ptb.tokenize([line, "end"]) == [before, "end"]


def test_a_line_gives_the_same_tokens_the_second_time():
    assert ptb.tokenize([*LINES, "end"])[:-1] == TOKENIZED


def test_memory_of_pieces_is_bounded(monkeypatch):
    monkeypatch.setattr(ptb, "_REMEMBERED", 10)
    monkeypatch.setattr(ptb, "_pieces", ptb._Pieces())
    lines = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}dog's" for i in range(100)]
    assert ptb.tokenize(lines) == [f"{line[:-2]} 's" for line in lines]
    assert len(ptb._pieces) <= 10
    ptb.tokenize(["x" * 1000])
    assert "x" * 1000 not in ptb._pieces


def test_every_character_is_survived():
    text = [f"x{chr(point)}y {chr(point)}" for point in range(0x3000)]
    text += ["\ud800 lone surrogate", "\U0010ffff"]
    assert len(ptb.tokenize(text)) == len(text)


@pytest.mark.parametrize(
    "unit", ["a,", "a.1", "1 ", "½😀", "x&www.%", "<a b=", "a@(", "is n't ", "%.", "a,1-", "J. <!a"]
)
def test_a_line_of_100_000_characters_is_read(unit):
    """In time that grows with its length: squared, some of these take minutes."""
    tokens = [len(ptb.tokenize([(unit * n)[:n]])[0].split()) for n in (10_000, 100_000)]
    assert tokens[1] == pytest.approx(10 * tokens[0], rel=0.02)


def test_an_abbreviation_of_a_number_at_the_end_depends_on_the_next_line():
    assert ptb.tokenize(["house no.", "5 dogs"]) == ["house no.", "5 dogs"]
    assert ptb.tokenize(["house no.", "dogs"]) == ["house no", "dogs"]
    assert ptb.tokenize(["house no.", "", "5"]) == ["house no", "", "5"]


def test_tokens_do_not_depend_on_what_was_read_before(monkeypatch):
    fresh = []
    for line in LINES[:300]:
        monkeypatch.setattr(ptb, "_pieces", ptb._Pieces())
        fresh.append(ptb.tokenize([line, "end"])[0])
    assert fresh == [ptb.tokenize([line, "end"])[0] for line in LINES[:300]]


def test_rules_for_ascii_give_what_all_rules_give(monkeypatch):
    lines = [line for line in LINES if line.isascii()]
    monkeypatch.setattr(ptb, "_matchers", dict.fromkeys((True, False), ptb._matchers[False]))
    monkeypatch.setattr(ptb, "_pieces", ptb._Pieces())
    with_all = ptb.tokenize(lines)
    monkeypatch.undo()
    assert ptb.tokenize(lines) == with_all


def test_any_iterable_of_lines_will_do():
    assert ptb.tokenize(line for line in ["A dog.", "Cats"]) == ["a dog", "cats"]
