"""Captions to ids and back, by words, by byte pairs, and with tokenizers that others made."""

from __future__ import annotations

import json

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, pre_tokenizers
from tokenizers.models import WordPiece

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


@pytest.mark.parametrize("train", [Tokenizer.train, Tokenizer.train_bpe])
def test_saved_and_loaded_it_is_the_same(tmp_path, train):
    tokenizer = train(CAPTIONS)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json", **tokenizer.description())
    assert loaded.fingerprint == tokenizer.fingerprint
    assert loaded.encode(CAPTIONS) == tokenizer.encode(CAPTIONS)
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match="not a tokenizer"):
        Tokenizer.load(tmp_path / "tokenizer.json", **tokenizer.description())


@pytest.mark.parametrize("train", [Tokenizer.train, Tokenizer.train_bpe])
def test_a_caption_that_spells_a_special_token_cannot_end_itself(tmp_path, train):
    trained = train(["a <eos> b", "<pad> c"])
    (tmp_path / "tokenizer.json").write_text(trained.to_json())
    loaded = Tokenizer.load(tmp_path / "tokenizer.json", **trained.description())
    for tokenizer in (trained, loaded):
        ids = tokenizer.encode(["a <eos> b <pad>"])[0]
        assert tokenizer.eos not in ids[1:-1] and tokenizer.pad not in ids


def test_byte_pairs_give_back_any_text():
    text = "Été: a Dog's  t-shirt, \t 50% of\n🐕 <eos>!"
    exact = Tokenizer.train_bpe(CAPTIONS, lowercase=False)
    plain = " ".join(text.split())
    assert exact.decode(exact.encode([text])[0]) == plain
    lower = Tokenizer.train_bpe(CAPTIONS)
    assert lower.decode(lower.encode([text])[0]) == plain.lower()
    assert exact.unk is None and exact.encode([""]) == [[exact.bos, exact.eos]]


def test_byte_pairs_are_learned_up_to_the_size_and_alike_in_any_order():
    captions = ["a dog runs", "a dog sits", "a dog", "the dogs run"] * 3
    tokenizer = Tokenizer.train_bpe(captions, vocabulary=270)
    assert len(tokenizer) == 270
    assert Tokenizer.train_bpe(reversed(captions), 270).to_json() == tokenizer.to_json()
    assert len(tokenizer.encode(["a dog"])[0]) < len(Tokenizer.train_bpe([]).encode(["a dog"])[0])


def test_an_unfinished_character_is_shown_as_such():
    tokenizer = Tokenizer.train_bpe(["a"])
    ids = tokenizer.encode(["a 🐕"])[0]
    assert tokenizer.decode(ids) == "a 🐕"
    for cut in range(4, len(ids) - 1):
        assert tokenizer.decode(ids[:cut]) == "a \N{REPLACEMENT CHARACTER}"
    assert tokenizer.decode([]) == "" == tokenizer.decode([tokenizer.eos, 50])


def test_words_know_their_tokens():
    words = Tokenizer.train(CAPTIONS)
    ids = words.encode(["a man's dog"])[0]
    assert words.words(ids[1:]) == [("a", (0,)), ("man's", (1,)), ("dog", (2,))]
    pairs = Tokenizer.train_bpe(["a a a"])
    ids = pairs.encode(["a dog, été"])[0][1:]
    found = pairs.words(ids)
    assert [word.text for word in found] == ["a", "dog,", "été"]
    assert [token for word in found for token in word.tokens] == list(range(len(ids) - 1))
    assert [pairs.decode([ids[t] for t in word.tokens]) for word in found] == ["a", "dog,", "été"]
    assert pairs.words([pairs.eos]) == []


def test_the_spellings_of_a_word():
    words = Tokenizer.train(CAPTIONS)
    assert words.spellings("Dog") == {tuple(words.encode(["dog"])[0][1:-1])}
    assert words.spellings("a dog") == {tuple(words.encode(["a dog"])[0][1:-1])}
    assert words.spellings("!!") == set()
    pairs = Tokenizer.train_bpe(CAPTIONS * 9, lowercase=False)
    texts = [pairs.decode(run) for run in pairs.spellings("dog")]
    assert sorted(texts) == ["Dog", "Dog", "dog", "dog"], "at the start and after a space"


def bert():
    """WordPiece with added special tokens after the vocabulary, as BLIP has."""
    pieces = ["[PAD]", "[UNK]", "[SEP]", "a", "dog", "##s", "cat", "it", "##", "."]
    backend = Backend(WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["[DEC]"])
    return Tokenizer(backend, "wordpiece", bos=10, eos=2, pad=0, unk=1)


def test_another_backend_keeps_its_own_special_ids(tmp_path):
    tokenizer = bert()
    assert tokenizer.encode(["a dogs"]) == [[10, 3, 4, 5, 2]]
    assert tokenizer.decode([3, 4, 5, 9, 2, 4]) == "a dogs."
    assert tokenizer.words([3, 4, 5, 9, 2]) == [("a", (0,)), ("dogs.", (1, 2, 3))]
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json())
    loaded = Tokenizer.load(tmp_path / "tokenizer.json", **tokenizer.description())
    assert loaded.description() == tokenizer.description()
    with pytest.raises(ModelError, match="no eos = 11: its ids end at 10"):
        Tokenizer.load(tmp_path / "tokenizer.json", **{**tokenizer.description(), "eos": 11})


def gpt2(folder):
    vocabulary = [*pre_tokenizers.ByteLevel.alphabet(), "do", "dog", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\nd o\ndo g\n")
    return len(vocabulary) - 1


def test_gpt2_files_are_read_and_begin_end_and_padding_may_be_one_token(tmp_path):
    end = gpt2(tmp_path)
    for path in (tmp_path, tmp_path / "vocab.json"):
        tokenizer = Tokenizer.from_files(path)
        assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.unk) == (end, end, end, None)
        ids = tokenizer.encode(["Dog dog"])[0]
        assert len(ids) == 7 and tokenizer.decode(ids[1:]) == "Dog dog"
    trained = Tokenizer.train(CAPTIONS)
    (tmp_path / "tokenizer.json").write_text(trained.to_json())
    assert Tokenizer.from_files(tmp_path).description() == {
        **trained.description(),
        "kind": "wordlevel",
    }


def test_files_that_are_no_tokenizer_are_named(tmp_path):
    with pytest.raises(ModelError, match=r"no tokenizer at .*vocab\.json"):
        Tokenizer.from_files(tmp_path)
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no tokenizer at .*merges\.txt"):
        Tokenizer.from_files(tmp_path)
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(ModelError, match=r"no token that begins a caption; known names: <bos>"):
        Tokenizer.from_files(tmp_path)
