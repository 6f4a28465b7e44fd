"""A data set that a small model learns in seconds: plain coloured squares, two captions each."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from pipeline.config import Config, load_config

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
SETTINGS = [
    "train.encoder.name=resnet18",
    "train.transform.size=32",
    "train.tokenizer.min_count=1",
    "train.batch_size=8",
    "train.warmup_steps=2",
    "train.learning_rate=0.003",
    "device=cpu",
    "threads=1",
]
SMALL = "train.decoder={width: 32, embedding: 32, attention: 16, dropout: 0.2}"


def make_data(folder: Path, counts: dict[str, int]) -> None:
    """Plain coloured squares, two captions each."""
    folder.mkdir(exist_ok=True)
    number = 0
    for split, count in counts.items():
        rows = []
        for _ in range(count):
            name = list(COLOURS)[number % 3]
            # A shade of its own: equal pictures in two splits are no fair validation.
            shade = tuple(min(255, c + number % 25) for c in COLOURS[name])
            Image.new("RGB", (32, 32), shade).save(folder / f"{number}.png")
            for text in (f"a {name} square", f"the whole picture is {name}"):
                rows.append({"image": f"{number}.png", "caption": text, "split": split})
            number += 1
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))


def settings(data: Path | str, *more: str) -> Config:
    return load_config(None, [*SETTINGS, SMALL, *sources(data), *more])


def sources(data: Path | str) -> list[str]:
    files = [
        {"kind": "jsonl", "annotations": str(Path(data) / f"{s}.jsonl")} for s in ("train", "val")
    ]
    return [f"shard.sources={json.dumps(files)}"]
