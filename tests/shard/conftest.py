import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import Config


class Sources:
    """A folder of captions files and pictures to shard, and the settings that name them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        (root / "images").mkdir(parents=True)

    def picture(self, name: str, seed: int = 0, kind: str = "JPEG") -> Path:
        path = self.root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        path.write_bytes(stream.getvalue())
        return path

    def coco(self, names: list[str], captions: dict[str, list[str]] | None = None) -> Path:
        """captions.json for pictures `names`, with two captions each unless `captions` says so."""
        captions = captions or {}
        images = [{"id": n, "file_name": name} for n, name in enumerate(names, 1)]
        annotations = [
            {"id": 10 * n + i, "image_id": n, "caption": text}
            for n, name in enumerate(names, 1)
            for i, text in enumerate(captions.get(name, [f"one {name}", f"two {name}"]))
        ]
        path = self.root / "captions.json"
        path.write_text(json.dumps({"images": images, "annotations": annotations}))
        return path

    def rows(self, rows: list[dict[str, Any]]) -> Path:
        path = self.root / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def config(self, *sources: dict[str, Any], **settings: Any) -> Config:
        """Settings with these sources, by default captions.json with the folder `images`."""
        chosen = sources or ({"annotations": "captions.json", "images": "images"},)
        shard = {"sources": list(chosen), "shard_size": 10, **settings}
        return Config.model_validate({"data_root": str(self.root), "shard": shard})

    def numbered(self, count: int, first: int = 0) -> list[str]:
        """Make pictures first.jpg, ... and return their names, from 0.jpg on."""
        for n in range(first, count):
            self.picture(f"{n}.jpg", seed=n)
        return [f"{n}.jpg" for n in range(count)]


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    return Sources(tmp_path)


@pytest.fixture
def make_sources(tmp_path: Path) -> Callable[[str], Sources]:
    return lambda name: Sources(tmp_path / name)


@pytest.fixture
def content() -> Callable[[Path], dict[str, bytes]]:
    """The bytes of every tar, index and manifest below a folder."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for pattern in ("parts/*/*", "sets/*", "report.jsonl")
            for path in sorted(folder.glob(pattern))
        }

    return read


KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.config import load_config
from pipeline.shard import part, shard

part.WORKERS = 2  # with many more than tars, a kill would find none finished
left, rename = sys.argv[3], os.replace

def replace(source, target):
    global left
    if left.isdigit():
        left = str(int(left) - 1)
    if left in ("0", Path(target).name):
        os.kill(os.getpid(), signal.SIGKILL)
    rename(source, target)

os.replace = replace
shard(load_config(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture
def run_killed() -> Callable[[Any, Path, str], None]:
    """Shards in another process, killed before its n-th commit or before that of a file."""

    def run(config: Any, work: Path, before: str) -> None:
        yaml = work.with_suffix(".yaml")
        yaml.write_text(config.to_yaml())
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(yaml), str(work), before],
            capture_output=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()

    return run
