"""`caption.format`: how a caption is written, recorded in the recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import caption
from pipeline.caption.wording import worded
from pipeline.config import CaptionConfig


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ("a dog runs", "A dog runs."),
        ("a dog runs .", "A dog runs."),
        ("A dog runs!", "A dog runs!"),
        ("a man , a woman and a child", "A man, a woman and a child."),
        ("a <unk> dog [UNK] in a <UNK>", "A dog in a."),
        ("<unk> , a dog", "A dog."),
        ("a dog ,", "A dog."),
        ("a dog  \n runs ...", "A dog runs..."),
        ("3 dogs", "3 dogs."),
        ('"stop" says the sign', '"Stop" says the sign.'),
        ('a sign says "stop!"', 'A sign says "stop!"'),
        ("éa", "Éa."),
        ("犬が走る。", "犬が走る。"),
        ("a well-known iPhone", "A well-known iPhone."),
        ("", ""),
        ("<unk>", ""),
        (" . ", ""),
    ],
)
def test_a_sentence_has_a_capital_a_full_stop_and_no_unknown_words(raw: str, sentence: str) -> None:
    assert worded(raw, "sentence") == sentence
    assert worded(sentence, "sentence") == sentence
    assert worded(raw, "raw") == raw


def test_rows_and_candidates_are_written_as_asked_and_the_recipe_tells(
    folder: Path, tmp_path: Path, stub: Any, by_member: Callable[[Path], dict[str, Any]]
) -> None:
    recipes = set()
    for how in ("raw", "sentence"):
        config = CaptionConfig(unit_size=4, batch_size=3, candidates=2, format=how)
        recipes.add(caption(config, [folder], tmp_path / how, stub()).recipe)
    assert len(recipes) == 2
    raw, sentences = by_member(tmp_path / "raw"), by_member(tmp_path / "sentence")
    for name, row in raw.items():
        expected = f"A{row['caption'][1:]}."
        assert sentences[name]["caption"] == expected
        assert [c["caption"] for c in sentences[name]["candidates"]] == [expected] * 2
        assert sentences[name]["score"] == row["score"]
