"""Karpathy's splits as a source of `shard`."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import AnnotationError, ConfigError
from pipeline.shard import shard
from pipeline.shard.sources import read_sources
from pipeline.shards import ShardReader

SOURCE = {"kind": "karpathy", "annotations": "dataset.json", "images": "images"}


def image(n: int, split: str, **further: Any) -> dict[str, Any]:
    sentences = [
        {"tokens": ["a", "dog"], "raw": f"A dog, no. {n} ", "imgid": n, "sentid": 2 * n},
        {"tokens": ["it", "runs"], "raw": "It runs.", "imgid": n, "sentid": 2 * n + 1},
    ]
    return {
        "filename": f"{n}.jpg",
        "imgid": n,
        "sentids": [2 * n, 2 * n + 1],
        "split": split,
        "sentences": sentences,
        **further,
    }


def write(sources: Any, images: Any) -> Path:
    path: Path = sources.root / "dataset.json"
    content = {"images": images, "dataset": "flickr8k"}
    path.write_text(images if isinstance(images, str) else json.dumps(content))
    return path


def test_flickr_style(sources: Any) -> None:
    sources.numbered(3)
    write(sources, [image(0, "train"), image(1, "val", licence=4), image(2, "test")])
    record = shard(sources.config(SOURCE), sources.work)
    assert record.samples == {"test": 1, "train": 1, "val": 1}
    (sample,) = ShardReader(record, "val")
    assert sample.captions == ["A dog, no. 1", "It runs."]
    assert sample.image == (sources.root / "images" / "1.jpg").read_bytes()
    assert sample.info["id"] == 1
    assert sample.info["file_name"] == "1.jpg"
    assert sample.info["meta"] == {"licence": 4, "sentids": [2, 3]}


def test_coco_style_has_folders_and_cocoids(sources: Any) -> None:
    for n, folder in enumerate(("train2014", "val2014", "val2014")):
        sources.picture(f"{folder}/{n}.jpg", n)
    images = [
        image(0, "train", filepath="train2014", cocoid=900),
        image(1, "restval", filepath="val2014", cocoid=901),
        image(2, "val", filepath="val2014", cocoid=902),
    ]
    write(sources, images)
    record = shard(sources.config(SOURCE), sources.work)
    assert record.samples == {"train": 2, "val": 1}
    infos = {info["id"]: info for info in ShardReader(record, "train").infos()}
    assert set(infos) == {900, 901}
    assert infos[901]["file_name"] == "val2014/1.jpg"
    assert infos[901]["meta"] == {"imgid": 1, "sentids": [2, 3]}


def test_restval_may_stay_apart(sources: Any) -> None:
    write(sources, [image(0, "train"), image(1, "restval")])
    splits = [p.split for p in read_sources(sources.config({**SOURCE, "restval": "more"}))]
    assert splits == ["train", "more"]
    with pytest.raises(ConfigError, match=r"sources.0.restval = 'a b' is not a name"):
        read_sources(sources.config({**SOURCE, "restval": "a b"}))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("[1]", "must hold an object with `images`, not a list"),
        ('{"annotations": []}', r"no key `images`; is it a dataset_\*.json.*keys: annotations"),
        ([{"split": "train"}], r"images\[0\] has no key `filename`"),
        ([image(0, "train"), 5], r"images\[1\] must be an object, not a number"),
        (
            [image(0, "train"), image(0, "val")],
            r"images\[1\].filename is '0.jpg', which images\[0\]",
        ),
        (
            [image(0, "train"), {**image(1, "val"), "imgid": 0}],
            r"images\[1\].imgid is 0, which images\[0\] has already",
        ),
        ([image(0, "a b")], r"images\[0\]: split 'a b' is not a name"),
        ([{"filename": "a.jpg"}], r"images\[0\] has no key `sentences`"),
        ([{"filename": "a.jpg", "sentences": {}}], r"images\[0\]: `sentences` must be a list"),
        (
            [{"filename": "a.jpg", "sentences": [{"tokens": ["a"]}]}],
            r"images\[0\].sentences\[0\] has `tokens` but no `raw`",
        ),
        (
            [{"filename": "a.jpg", "sentences": [{"raw": "x"}, {"raw": 3}]}],
            r"images\[0\].sentences\[1\].raw must be a text, not 3",
        ),
    ],
)
def test_malformed(sources: Any, images: Any, message: str) -> None:
    path = write(sources, images)
    with pytest.raises(AnnotationError, match=message) as caught:
        shard(sources.config(SOURCE), sources.work)
    assert str(path) in str(caught.value)
    assert not sources.work.exists()
