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


def config(
    start: Path | None, width: int = 16, dropout: float = 0.0, frozen: int | str = 1
) -> Config:
    decoder = {"kind": "lstm", "width": width, "embedding": 16, "attention": 8, "dropout": dropout}
    encoder = {"name": "resnet18", "train": frozen}
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


@pytest.mark.parametrize("asked", ["none", "all", 3])
def test_what_is_trained_may_be_another_share(
    former: Path, tmp_path: Path, asked: str | int
) -> None:
    begun = build_captioner(config(former, dropout=0.3, frozen=asked), SHARDS, CAPTIONS)
    saved = SavedCaptioner.load(former)
    mine, theirs = (one.model.encoder.stages.state_dict() for one in (begun, saved))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    trained = {
        n.split(".")[0] for n, p in begun.model.encoder.named_parameters() if p.requires_grad
    }
    assert trained == (set() if asked == "none" else {"trained"})
    assert len(begun.model.encoder.trained) == {"none": 0, "all": 5, 3: 3}[asked]
    assert begun.model.decoder.drop.p == 0.3
    begun.save(tmp_path / "again")
    again = SavedCaptioner.load(tmp_path / "again")
    assert all(
        torch.equal(v, begun.model.state_dict()[n]) for n, v in again.model.state_dict().items()
    )


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
