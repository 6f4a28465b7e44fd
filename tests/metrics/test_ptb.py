"""The tokeniser against frozen answers of pycocoevalcap's own, and the rules around it.

ptb_answers.json holds lines written for it and what pycocoevalcap 1.2 (CoreNLP 3.4.1) gave for
them, all in one call and in this order.
"""

import json
from pathlib import Path

import pytest

from pipeline.metrics import ptb

ANSWERS = json.loads(Path(__file__).with_name("ptb_answers.json").read_text(encoding="utf-8"))
LINES = [line for line, _ in ANSWERS]
TOKENIZED = ptb.tokenize(LINES)


@pytest.mark.parametrize("index", range(len(LINES)), ids=lambda index: f"{index}")
def test_tokens_are_those_of_pycocoevalcap(index):
    assert TOKENIZED[index] == ANSWERS[index][1], LINES[index]


def test_the_table_is_as_large_as_promised():
    assert len(set(LINES)) == len(LINES) >= 150


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


def test_a_line_gives_the_same_tokens_the_second_time():
    assert ptb.tokenize(LINES) == TOKENIZED


def test_memory_of_pieces_is_bounded(monkeypatch):
    monkeypatch.setattr(ptb, "_REMEMBERED", 10)
    monkeypatch.setattr(ptb, "_remembered", {})
    lines = [f"{chr(97 + i % 26)}{chr(97 + i // 26)}dog's" for i in range(100)]
    assert ptb.tokenize(lines) == [f"{line[:-2]} 's" for line in lines]
    assert len(ptb._remembered) <= 10
    ptb.tokenize(["x" * 1000])
    assert "x" * 1000 not in ptb._remembered


def test_every_character_is_survived():
    text = [f"x{chr(point)}y {chr(point)}" for point in range(0x3000)]
    text += ["\ud800 lone surrogate", "\U0010ffff"]
    assert len(ptb.tokenize(text)) == len(text)


def test_any_iterable_of_lines_will_do():
    assert ptb.tokenize(line for line in ["A dog.", "Cats"]) == ["a dog", "cats"]
