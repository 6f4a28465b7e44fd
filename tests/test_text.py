"""The word-level tokenizer."""

from __future__ import annotations

import pytest

from pipeline.errors import ModelError
from pipeline.text import Tokenizer

CAPTIONS = ["A dog runs.", "a DOG, sits!", "Two dogs' balls; a man's t-shirt", "été à la plage"]


def test_words_are_lower_cased_and_punctuation_separates():
    tokenizer = Tokenizer.train(CAPTIONS)
    assert tokenizer.decode(tokenizer.encode(["A dog, runs... (sits)"])[0]) == "a dog runs sits"
    assert tokenizer.decode(tokenizer.encode(["man's T-SHIRT"])[0]) == "man's t-shirt"
    assert tokenizer.decode(tokenizer.encode(["ÉTÉ à"])[0]) == "été à"


def test_ids_are_framed_cut_and_deterministic():
    tokenizer = Tokenizer.train(CAPTIONS)
    ids = tokenizer.encode(["a dog runs", ""])
    assert ids[0][0] == tokenizer.bos and ids[0][-1] == tokenizer.eos and len(ids[0]) == 5
    assert ids[1] == [tokenizer.bos, tokenizer.eos]
    assert tokenizer.encode(["a dog runs"], max_len=4)[0] == [*ids[0][:3], tokenizer.eos]
    assert Tokenizer.train(reversed(CAPTIONS)).to_json() == tokenizer.to_json()
    assert tokenizer.encode(["a"])[0][1] == 4, "the most frequent word comes first"


def test_rare_words_become_the_unknown_word_and_are_not_written():
    tokenizer = Tokenizer.train(["a dog", "a dog", "a cat"], min_count=2)
    assert tokenizer.encode(["a cat"])[0] == [1, 4, tokenizer.unk, 2]
    assert tokenizer.decode([1, 4, tokenizer.unk, 2, 5]) == "a"
    assert len(Tokenizer.train(["a b c d e"], max_words=2)) == 6


def test_saved_and_loaded_it_is_the_same(tmp_path):
    tokenizer = Tokenizer.train(CAPTIONS)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(CAPTIONS) == tokenizer.encode(CAPTIONS)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="not a tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_caption_that_spells_a_special_token_cannot_end_itself():
    tokenizer = Tokenizer.train(["a <eos> b", "<pad> c"])
    ids = tokenizer.encode(["a <eos> b <pad>"])[0]
    assert tokenizer.eos not in ids[1:-1] and tokenizer.pad not in ids
