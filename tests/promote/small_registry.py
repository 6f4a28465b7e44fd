"""Candidates for the promotion's tests: directories whose captions are known beforehand.

A captioner here is a directory with `captions.json`; `measured` stands in for the process that
would run a model. It is a module of its own, so that killed child processes use the same.
"""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline import storage
from pipeline.config import Config
from pipeline.promote import judging, promote
from pipeline.promote.measure import Measured
from pipeline.records import Checkpoint, Decision, EvaluationSet, ScoreCard, ShardSet
from pipeline.shard import shard
from pipeline.shards import ShardReader

WORDS = [
    "red",
    "green",
    "blue",
    "grey",
    "dog",
    "cat",
    "bird",
    "horse",
    "runs",
    "sits",
    "jumps",
    "sleeps",
    "grass",
    "snow",
    "water",
    "sand",
]
IMAGES = 40


def write_pictures(folder: Path, images: int = IMAGES, first: int = 0) -> None:
    """Flat pictures of train and val, five captions each, and a `place` for slices."""
    rows = []
    random.seed(0)
    for number in range(first, first + 2 * images):
        split = "val" if number % 2 else "train"
        Image.new("RGB", (8, 8), (number % 256, number // 256, 90)).save(folder / f"{number}.png")
        words = random.sample(WORDS, 6)
        place = "indoors" if number % 8 < 4 else "outdoors"
        for shift in range(3):
            caption = f"a {' '.join(words[shift:] + words[:shift])} {number}"
            row = {"image": f"{number}.png", "caption": caption, "split": split, "place": place}
            rows.append(row)
    with open(folder / "rows.jsonl", "a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def make_shards(folder: Path, work: Path) -> ShardSet:
    source = {"kind": "jsonl", "annotations": str(folder / "rows.jsonl")}
    return shard(Config.model_validate({"shard": {"sources": [source]}}), work)


def said(shard_set: ShardSet, right: float) -> list[str]:
    """A caption a picture: the first so many right, the others' about another picture."""
    captions = [refs[0] for refs in ShardReader(shard_set, "val").captions()]
    count = round(right * len(captions))
    wrong = captions[count:]
    return captions[:count] + wrong[1:] + wrong[:1]


def candidate(
    work: Path, shard_set: ShardSet, name: str, captions: list[str], **more: Any
) -> tuple[Checkpoint, ScoreCard]:
    """A checkpoint's files and its score card, as `train` and `score` leave them."""
    model, scores = work / "train" / name / "model", work / "score" / name
    for directory in (model, scores):
        directory.mkdir(parents=True, exist_ok=True)
    weights = name.encode()
    (model / "model.safetensors").write_bytes(weights)
    digest = hashlib.sha256(weights).hexdigest()
    storage.commit_json(model / "captioner.json", {"weights_sha256": digest})
    said_of = {"captions": captions, "seconds": 1.0, "unfinished": 0, **more}
    storage.commit_json(model / "captions.json", said_of)
    (scores / "per_image.parquet").write_bytes(b"scores")
    (scores / ".lock").write_text("1")
    checkpoint = Checkpoint(
        path=str(model),
        fingerprint=name,
        shard_set=shard_set.fingerprint,
        epoch=1,
        step=10,
        validation_cider=None,
        run_id=None,
    )
    card = ScoreCard(
        path=str(scores),
        fingerprint=f"card-{name}",
        checkpoint=name,
        split="val",
        references="refs",
        images=len(captions),
        metrics={"bleu_4": 10.0, "cider": 40.0},
        signature="sig",
        run_id=None,
    )
    return checkpoint, card


def measured(
    config: Config, name: str, model: Path, evaluation_set: EvaluationSet, directory: Path
) -> Measured:
    """Stands in for the process: what `captions.json` says."""
    del config, name, directory
    said_of = storage.read_json(model / "captions.json")
    reader = ShardReader(evaluation_set.shard_set, evaluation_set.split)
    captions = said_of["captions"]
    return Measured(
        images=tuple(str(info["id"]) for info in reader.infos()),
        captions=tuple(captions),
        scores=(0.0,) * len(captions),
        unfinished=said_of["unfinished"],
        seconds=said_of["seconds"],
    )


def settings(**promote: Any) -> Config:
    return Config.model_validate({"promote": {"resamples": 1000, **promote}})


def decided(
    work: Path,
    shard_set: ShardSet,
    name: str,
    right: float,
    config: Config | None = None,
    *,
    how: dict[str, Any] | None = None,
    **more: Any,
) -> Decision:
    """Promote a candidate that is right about a share of the pictures."""
    judging.measure = measured
    captions = more.pop("captions", None) or said(shard_set, right)
    made = candidate(work, shard_set, name, captions, **more)
    return promote(config or settings(), work, shard_set, *made, **(how or {}))
