"""Photos of the validation split that are training photos too stop training, by their bytes."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Config, load_config
from pipeline.errors import DataError
from pipeline.records import ShardSet
from pipeline.shard import shard
from pipeline.shards import ShardReader
from pipeline.train import find_checkpoint, train
from pipeline.train.overlap import require_separate_splits


def config_of(folder: Path, splits: dict[str, list[tuple[str, int]]], *more: str) -> Config:
    """A source a split, with pictures by name and seed."""
    sources = []
    for split, pictures in splits.items():
        (folder / split).mkdir(exist_ok=True)
        rows = []
        for name, seed in pictures:
            pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            (folder / split / name).write_bytes(stream.getvalue())
            rows.append(json.dumps({"image": f"{split}/{name}", "caption": "x"}))
        (folder / f"{split}.jsonl").write_text("\n".join(rows))
        file = str(folder / f"{split}.jsonl")
        sources.append({"kind": "jsonl", "annotations": file, "split": split})
    return load_config(None, [f"shard.sources={json.dumps(sources)}", *more])


def check(config: Config, shard_set: ShardSet) -> None:
    readers = (ShardReader(shard_set, s) for s in ("train", config.train.validation_split))
    require_separate_splits(config, *readers)


def numbered(seeds: range) -> list[tuple[str, int]]:
    return [(f"{seed}.png", seed) for seed in seeds]


def test_separate_splits_pass_and_doubles_within_one_too(tmp_path):
    config = config_of(
        tmp_path, {"train": [*numbered(range(9)), ("again.png", 0)], "val": numbered(range(9, 12))}
    )
    check(config, shard(config, tmp_path))


def test_equal_photos_of_other_names_are_named_and_counted(tmp_path, monkeypatch):
    splits = {"train": numbered(range(9)), "val": [("new.png", 20), ("copy.png", 4)]}
    config = config_of(tmp_path, splits)
    shards = shard(config, tmp_path)

    def forbidden(*_: object) -> None:
        raise AssertionError("a picture was read")

    monkeypatch.setattr("pipeline.shard_bytes._sample", forbidden)
    with pytest.raises(DataError) as caught:
        check(config, shards)
    message = str(caught.value)
    assert "1 of the 2 photos of the split 'val' are also in 'train'" in message
    assert "(train: train/4.png = val: val/copy.png)" in message
    assert "train.allow_overlap = true" in message
    check(config_of(tmp_path, splits, "train.allow_overlap=true"), shards)


def test_only_some_are_named(tmp_path):
    config = config_of(tmp_path, {"train": numbered(range(9)), "val": numbered(range(8))})
    with pytest.raises(DataError, match=r"8 of the 8 photos.*, \.\.\.\)") as caught:
        check(config, shard(config, tmp_path))
    assert str(caught.value).count(".png = ") == 5


def test_the_split_of_validation_counts(tmp_path):
    splits = {"train": numbered(range(9)), "val": numbered(range(3)), "dev": numbered(range(9, 12))}
    config = config_of(tmp_path, splits)
    shards = shard(config, tmp_path)
    check(config_of(tmp_path, splits, "train.validation_split=dev"), shards)
    with pytest.raises(DataError, match="9 of the 9 photos of the split 'train'"):
        check(config_of(tmp_path, splits, "train.validation_split=train"), shards)


def test_training_refuses_before_any_work(tmp_path):
    config = config_of(tmp_path, {"train": numbered(range(9)), "val": numbered(range(2))})
    shards = shard(config, tmp_path)
    with pytest.raises(DataError, match="2 of the 2 photos"):
        train(config, tmp_path, shards)
    with pytest.raises(DataError, match="no finished checkpoint"):
        find_checkpoint(config, tmp_path, shards)
