"""Training that goes on from a former captioner."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.config import Config
from pipeline.errors import ConfigError, ModelError
from pipeline.models.saved import SavedCaptioner
from pipeline.records import ShardSet
from pipeline.train.build import build_captioner
from pipeline.train.identity import fingerprint

CAPTIONS = [["a red square"], ["a green sky", "blue"]]
SHARDS = ShardSet(
    manifest="m", fingerprint="s", samples={"train": 2}, captions={}, bad={}, report="r"
)


def config(start: Path | None, width: int = 16, dropout: float = 0.0) -> Config:
    decoder = {"kind": "lstm", "width": width, "embedding": 16, "attention": 8, "dropout": dropout}
    encoder = {"name": "resnet18", "train": 1}
    train = {
        "encoder": encoder,
        "decoder": decoder,
        "transform": {"size": 32},
        "tokenizer": {"min_count": 1},
    }
    return Config.model_validate({"train": {**train, "start": start and str(start)}})


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("former")
    build_captioner(config(None), SHARDS, [["an older set of words"]]).save(directory)
    return directory


def test_weights_and_tokenizer_are_the_formers(former: Path) -> None:
    begun = build_captioner(config(former, dropout=0.3), SHARDS, CAPTIONS)
    saved = SavedCaptioner.load(former)
    assert begun.tokenizer.to_json() == saved.tokenizer.to_json()
    mine, theirs = begun.model.state_dict(), saved.model.state_dict()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert len(begun.provenance["started_from"]) == 16
    assert str(former) not in str(begun.provenance)
    fresh = build_captioner(config(None), SHARDS, CAPTIONS)
    assert fresh.tokenizer.to_json() != saved.tokenizer.to_json()
    assert "started_from" not in fresh.provenance


def test_where_a_training_starts_is_part_of_what_it_is(former: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    SavedCaptioner.load(former).save(copy)
    assert fingerprint(config(former), SHARDS) == fingerprint(config(copy), SHARDS)
    assert fingerprint(config(former), SHARDS) != fingerprint(config(None), SHARDS)


def test_another_shape_is_an_error_that_names_it(former: Path) -> None:
    with pytest.raises(ConfigError, match=r"decoder.width = 24, not 16.*retrain.start = fresh"):
        build_captioner(config(former, width=24), SHARDS, CAPTIONS)


def test_a_captioner_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no captioner's directory"):
        build_captioner(config(tmp_path), SHARDS, CAPTIONS)
