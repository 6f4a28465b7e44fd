"""Tokenizers from every file layout give the original's tokens."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import ModelError
from pipeline.models.importers.checkpoint import Checkpoint
from pipeline.models.importers.tokenizer import read_backend

TEXTS = ["a dog runs over the café", "Two children's KITES, 12 of them!", "  spaces  "]


@pytest.fixture
def old(original):
    """The checkpoint's tokenizer without tokenizer.json, as older releases saved it."""

    def save(directory):
        content = json.loads((original.directory / "tokenizer.json").read_text())
        settings = (original.directory / "tokenizer_config.json").read_text()
        (directory / "tokenizer_config.json").write_text(settings)
        vocabulary = content["model"]["vocab"]
        if content["model"]["type"] == "BPE":
            merges = [" ".join(pair) for pair in content["model"]["merges"]]
            (directory / "vocab.json").write_text(json.dumps(vocabulary))
            (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
        else:
            words = sorted(vocabulary, key=vocabulary.__getitem__)
            (directory / "vocab.txt").write_text("\n".join(words) + "\n")
        return Checkpoint(directory, {})

    return save


def test_old_files_are_read_as_new_ones(original, old, tmp_path):
    size = len(original.tokenizer)
    for backend in (
        read_backend(Checkpoint(original.directory, {}), size),
        read_backend(old(tmp_path), size),
    ):
        for text in TEXTS:
            ids = backend.encode(text, add_special_tokens=False).ids
            assert ids == original.tokenizer(text, add_special_tokens=False)["input_ids"]
            shown = original.tokenizer.decode(ids, skip_special_tokens=True)
            assert backend.decode(ids) == shown
        special = original.tokenizer.all_special_ids
        assert backend.decode(special) == ""


def test_rows_without_an_entry_decode_to_nothing(original, old, tmp_path):
    size = len(original.tokenizer)
    for checkpoint in (Checkpoint(original.directory, {}), old(tmp_path)):
        backend = read_backend(checkpoint, size + 3)
        assert backend.get_vocab_size() == size + 3
        assert backend.decode([size, size + 1, size + 2]) == ""
    with pytest.raises(ModelError, match=f"{size} entries, the model {size - 1}"):
        read_backend(Checkpoint(original.directory, {}), size - 1)


def test_added_tokens_of_old_files(original, old, tmp_path):
    checkpoint, size = old(tmp_path), len(original.tokenizer)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"zebra": size + 1, "[DEC]": size}))
    (tmp_path / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": {"content": "[DEC]", "lstrip": False}})
    )
    backend = read_backend(checkpoint, size + 2)
    assert backend.get_vocab_size() == size + 2
    assert backend.decode([size, size + 1]).strip() == "zebra"


def test_a_vocabulary_with_a_line_twice(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\na\ndog\nruns\ndog\n")
    with pytest.raises(ModelError, match=r"vocab\.txt: lines 5 and 7 are both 'dog'"):
        read_backend(Checkpoint(tmp_path, {}), 9)


def test_no_tokenizer_and_broken_ones(tmp_path):
    with pytest.raises(ModelError, match=r"no tokenizer: tokenizer\.json, vocab\.json"):
        read_backend(Checkpoint(tmp_path, {}), 9)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match="the tokenizer cannot be read"):
        read_backend(Checkpoint(tmp_path, {}), 9)
