"""Pictures of a photo's size in bytes, and shard sets of them, made up: what speeds are measured on."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from metric_speed import made_up
from PIL import Image

from pipeline.config import Config
from pipeline.records import ShardSet
from pipeline.shard import shard

COCO = (640, 480)
TWELVE_MEGAPIXELS = (4000, 3000)


def make_pictures(
    folder: Path, count: int, size: tuple[int, int] = COCO, distinct: int = 24, grain: float = 13
) -> None:
    """JPEGs that differ in their bytes; so many of them are `distinct` as pictures.

    The `grain` is the standard deviation of their noise, of 255, and decides their size: 13 gives
    about half a byte a pixel, 155 kB at COCO's size, as COCO's photos have.
    """
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(min(count, distinct)):
        blobs = Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        pixels = np.asarray(blobs.resize(size, Image.Resampling.BICUBIC)).astype(np.int16)
        noise = rng.normal(0, grain, pixels.shape).astype(np.int16)
        picture = io.BytesIO()
        Image.fromarray((pixels + noise).clip(0, 255).astype(np.uint8)).save(
            picture, "JPEG", quality=90
        )
        pictures.append(picture.getvalue())
    folder.mkdir()
    for n in range(count):
        data = pictures[n % len(pictures)]
        comment = b"\xff\xfe\x00\x0a" + f"{n:08d}".encode()
        (folder / f"{n:012d}.jpg").write_bytes(data[:2] + comment + data[2:])


def make_shards(
    scratch: Path, files: list[Path], held_out: int = 0, captions: int = 5
) -> tuple[Config, ShardSet]:
    """The files with so many made-up captions each, through `shard` into `scratch`.

    The last `held_out` files are the split val, the others train.
    """
    rows = [
        {
            "image": str(path.absolute()),
            "caption": text,
            "split": "train" if n < len(files) - held_out else "val",
        }
        for n, (path, texts) in enumerate(zip(files, made_up(len(files)), strict=True))
        for text in texts[:captions]
    ]
    annotations = scratch / "captions.jsonl"
    annotations.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "jsonl", "annotations": str(annotations)}
    config = Config.model_validate({"shard": {"sources": [source]}})
    with contextlib.redirect_stderr(io.StringIO()):
        return config, shard(config, scratch / "work")
