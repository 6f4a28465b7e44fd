"""Training from object storage: the weights are those of training from disk, to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from coloured_squares import make_data, settings

from pipeline.errors import ShardError, StorageError
from pipeline.remote import RemotePath, s3
from pipeline.score import score
from pipeline.shard import find_shard_set, shard
from pipeline.shards import ShardReader
from pipeline.tracking import runs
from pipeline.train import train

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
