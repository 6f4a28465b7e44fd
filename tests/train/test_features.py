"""The feature cache: a miss is filled or fails, and changed pictures have features of their own."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from coloured_squares import make_data, settings

from pipeline import storage
from pipeline.config_recipe import AugmentConfig
from pipeline.errors import ModelError, ShardError
from pipeline.evaluate import load_pixels
from pipeline.images import Transform, normalise
from pipeline.models.build import build
from pipeline.shard import shard
from pipeline.shards import ShardReader
from pipeline.train import features
from pipeline.train.augment import Augmentation
from pipeline.train.features import FeatureCache

TRANSFORM = Transform(size=32)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    decoder = {"kind": "gpt", "width": 16, "layers": 1, "heads": 2}
    return build({"encoder": {"name": "resnet18"}, "decoder": decoder, "vocabulary": 9, "size": 32})


@pytest.fixture
def reader(tmp_path):
    make_data(tmp_path, {"train": 7, "val": 1})
    config = settings(tmp_path, "shard.shard_size=4")
    return ShardReader(shard(config, tmp_path / "work"), "train")


NORM = "frozen.4.1.bn2.weight"


def cache(model, reader, tmp_path, **options):
    return FeatureCache(model, TRANSFORM, reader, tmp_path / "features", 3, **options)


def test_features_that_another_run_is_making_are_waited_for(model, reader, tmp_path, monkeypatch):
    told = threading.Event()
    monkeypatch.setattr(features, "say", lambda stage, text: told.set() if "waiting" in text else 0)
    with ThreadPoolExecutor(1) as other:
        with storage.lock(tmp_path / "features"):
            waiting = other.submit(cache, model, reader, tmp_path)
            assert told.wait(60)
            assert not list((tmp_path / "features").glob("*.npy"))
        assert waiting.result(60)(0, 7).shape[0] == 7


def test_features_of_pictures_and_of_their_versions(model, reader, tmp_path):
    augmentation = Augmentation(AugmentConfig(flip=True, crop=0.3, versions=1), 0)
    found = cache(model, reader, tmp_path, augmentation=augmentation)
    pixels, keys = load_pixels(TRANSFORM, reader, range(7)), reader.keys()
    for version in range(3):
        shown = [augmentation.version(version, pixels[row], keys[row], False) for row in range(7)]
        wanted = model.features(normalise(torch.stack(shown), TRANSFORM))
        got = found.rows(list(range(7)), [version] * 7)
        torch.testing.assert_close(got, wanted, atol=0.02, rtol=0.02)
    assert len(list((tmp_path / "features").glob("*-mirrored.npy"))) == 2
    assert len(list((tmp_path / "features").glob("*.npy"))) == 6


def test_features_that_half_precision_cannot_hold_are_refused(model, reader, tmp_path):
    loud = copy.deepcopy(model)
    with torch.no_grad():
        loud.encoder.state_dict()[NORM].fill_(1e8)
    with pytest.raises(ModelError, match=r"of 3 of 3 pictures .*cache_features = false"):
        cache(loud, reader, tmp_path)
    assert not list((tmp_path / "features").glob("*.npy"))


@pytest.mark.parametrize("damage", ["cut", "short", "gone"])
def test_what_is_missing_or_damaged_is_made_again(model, reader, tmp_path, damage):
    wanted = cache(model, reader, tmp_path)(0, 7)
    file = sorted((tmp_path / "features").glob("*.npy"))[0]
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "short":
        np.save(file, np.load(file)[:-1])
    else:
        file.unlink()
    assert torch.equal(cache(model, reader, tmp_path)(0, 7), wanted)


def test_a_miss_that_cannot_be_filled_fails(model, reader, tmp_path):
    cache(model, reader, tmp_path)
    next((tmp_path / "features").glob("*.npy")).unlink()
    for tar in reader.tars:
        tar.path.unlink()
    with pytest.raises(ShardError, match=r"train-0*\d\.tar"):
        cache(model, reader, tmp_path)
