"""Training from object storage: the weights are those of training from disk, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from coloured_squares import make_data, settings

from pipeline.errors import ShardError, StorageError
from pipeline.images import Transform
from pipeline.remote import RemotePath, held, s3
from pipeline.score import score
from pipeline.shard import find_shard_set, shard
from pipeline.shards import ShardReader
from pipeline.text import Tokenizer
from pipeline.tracking import runs
from pipeline.train import loader as loader_module
from pipeline.train import train
from pipeline.train.captions import EncodedCaptions
from pipeline.train.loader import Loader

SMALL = "train.encoder={name: vit, train: %s, patch: 16, depth: 1, width: 16, heads: 2}"
AUGMENTED = "train.augment={crop: 0.3, colour: 0.3, flip: true}"
KINDS = {
    "cached features": [SMALL % "none"],
    "pictures every epoch": [SMALL % "all", AUGMENTED, "train.workers=3"],
}


@pytest.fixture(autouse=True)
def untracked(monkeypatch):
    monkeypatch.setattr(runs, "installed", lambda: False)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, {"train": 24, "val": 4})
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_weights_are_those_of_training_from_disk(data, bucket, tmp_path, kind):
    options = ["train.epochs=2", "shard.shard_size=7", *KINDS[kind]]
    here, there = (
        settings(data, *options, *more) for more in ([], [f"shard.store={bucket / 'sets'}"])
    )
    local = train(here, tmp_path / "here", shard(here, tmp_path / "here"))
    shard(there, tmp_path / "there")
    elsewhere = tmp_path / "another machine"
    found = find_shard_set(there, elsewhere)
    assert found.manifest.startswith("s3://")
    remote = train(there, elsewhere, found)
    weights = [(Path(r.path) / "model.safetensors").read_bytes() for r in (local, remote)]
    assert weights[0] == weights[1]
    assert remote.model_dump(exclude={"path"}) == local.model_dump(exclude={"path"})
    assert not list(elsewhere.rglob("*.tar")), "nothing is kept on disk"
    scores = [
        score(here, tmp_path / "here", find_shard_set(here, tmp_path / "here"), local),
        score(there, elsewhere, found, remote),
    ]
    assert scores[0].metrics == scores[1].metrics


def test_a_store_that_fails_in_the_middle_stops_training_and_the_next_run_goes_on(
    data, bucket, tmp_path, monkeypatch
):
    options = ["train.epochs=3", "shard.shard_size=7", *KINDS["pictures every epoch"]]
    config = settings(data, *options, f"shard.store={bucket / 'sets'}")
    found = shard(config, tmp_path)
    whole = train(config, tmp_path / "whole", found)
    run, requests = s3._run, 0

    def failing(asked):
        nonlocal requests
        requests += 1
        if requests > 30:
            raise StorageError("the store cannot be reached")
        return run(asked)

    with monkeypatch.context() as patch:
        patch.setattr(s3, "_run", failing)
        with pytest.raises(StorageError):
            train(config, tmp_path / "cut", found)
    again = train(config, tmp_path / "cut", found)
    weights = [(Path(r.path) / "model.safetensors").read_bytes() for r in (whole, again)]
    assert weights[0] == weights[1]


def test_a_tar_that_is_gone_is_named(data, bucket, tmp_path):
    config = settings(
        data, "train.epochs=1", "shard.shard_size=7", SMALL % "all", f"shard.store={bucket}"
    )
    found = shard(config, tmp_path)
    gone = ShardReader(found, "train").tars[1].path
    assert isinstance(gone, RemotePath)
    gone.unlink()
    with pytest.raises(ShardError, match=f"{gone}: no such object"):
        train(config, tmp_path, found)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_rank_reads_its_streams_front_to_back(data, bucket, tmp_path, monkeypatch, world):
    """Every byte about once an epoch, by fewer requests than samples, where windows are small."""
    order = "train.order={streams: 2, run: 6, window: 6}"
    options = ["shard.shard_size=12", order, "train.batch_size=6", "train.workers=2"]
    config = settings(data, *options, f"shard.store={bucket}")
    found, here = shard(config, tmp_path), shard(settings(data, *options), tmp_path)
    monkeypatch.setattr(held, "BLOCK", 4096)
    asked, get_all = [], s3.get_all
    monkeypatch.setattr(s3, "get_all", lambda asks: asked.extend(asks) or get_all(asks))

    def batches(record, rank):
        reader = ShardReader(record, "train")
        captions = reader.captions()
        tokenizer = Tokenizer.train([c for group in captions for c in group], 1)
        encoded = EncodedCaptions(captions, tokenizer, 12)
        loader = Loader(reader, encoded, Transform(size=32), config.train, rank=rank, world=world)
        asked.clear()
        return [(batch.keys, batch.images) for batch in loader.batches(0)], reader

    for rank in range(world):
        there, reader = batches(found, rank)
        requests = list(asked)
        local, _ = batches(here, rank)
        assert [keys for keys, _ in there] == [keys for keys, _ in local]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(there, local, strict=True))
        size = sum(tar.size for tar in reader.tars)
        assert len(requests) == len(set(requests)), "nothing is fetched twice"
        assert sum(ask.span[1] - ask.span[0] for ask in requests) <= 1.5 * size
        assert len(requests) < len(reader)


def test_windows_that_cannot_be_held_are_read_sample_by_sample(data, bucket, tmp_path, monkeypatch):
    config = settings(data, "shard.shard_size=12", f"shard.store={bucket}")
    reader = ShardReader(shard(config, tmp_path), "train")
    assert loader_module._held(reader, config.train, 1) is not None
    monkeypatch.setattr(loader_module, "HELD", 1000)
    assert loader_module._held(reader, config.train, 1) is None
    local = ShardReader(shard(settings(data, "shard.shard_size=12"), tmp_path), "train")
    assert loader_module._held(local, config.train, 1) is None
