"""Where `shard`'s processor time goes, part by part, beside that of `tar cf` over the same files.

    python tests/benchmarks/shard_parts.py [--files 500] [--runs 5]

Prints microseconds of a core a file (user and system, median of the runs), on one thread with the
files in the page cache. Waiting for the disk or for another thread is not counted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from photos import make_pictures

from pipeline import images
from pipeline.config import Config
from pipeline.shard import tar
from pipeline.shard.locate import locate
from pipeline.shard.part import plan_part
from pipeline.shard.read import LIMITS, read_ahead
from pipeline.shard.sample_tar import SampleTar
from pipeline.shard.sources import read_sources
from pipeline.shard_tars import Member, Tar, table_digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        make_pictures(scratch / "images", arguments.files)
        parts: dict[str, list[float]] = {}
        for _ in range(arguments.runs + 1):
            for part, seconds in measure(scratch).items():
                parts.setdefault(part, []).append(seconds / arguments.files * 1e6)
        # The first round fills caches and is not counted.
        medians = {part: statistics.median(values[1:]) for part, values in parts.items()}
        for part, microseconds in medians.items():
            print(f"{part:44}{microseconds:8.1f}")
        peer = medians.pop("tar cf")
        total = sum(medians.values())
        print(f"{'shard, all parts':44}{total:8.1f}")
        cores = os.cpu_count() or 1
        print(
            f"tar cf / (shard / {cores} cores), if nothing ever waited: {peer * cores / total:.2f}"
        )


def measure(scratch: Path) -> dict[str, float]:
    """Seconds of a core by part."""
    names = sorted(path.name for path in (scratch / "images").iterdir())
    rows = [{"image": name, "caption": f"a photo of {name}"} for name in names]
    (scratch / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = {"kind": "jsonl", "annotations": str(scratch / "rows.jsonl")}
    config = Config.model_validate(
        {"shard": {"sources": [{**source, "images": str(scratch / "images")}]}}
    )
    found: dict[str, float] = {}

    def part(name: str, work: Callable[[], Any]) -> Any:
        before = _cpu(resource.RUSAGE_SELF)
        value = work()
        found[name] = _cpu(resource.RUSAGE_SELF) - before
        return value

    before = _cpu(resource.RUSAGE_CHILDREN)
    plain = scratch / "plain.tar"
    subprocess.run(["tar", "-c", "-f", plain, "-C", scratch / "images", "."], check=True)
    found["tar cf"] = _cpu(resource.RUSAGE_CHILDREN) - before
    plain.unlink()

    pictures = part("captions file, keys, digests", lambda: read_sources(config))
    located = part("finding the files", lambda: list(locate(pictures)[0].values()))
    part("order", lambda: plan_part(config.shard, located))
    contents: list[bytes] = []

    def read() -> None:
        for _, data, _ in read_ahead(located):
            assert isinstance(data, bytes)
            contents[:] = [data]  # as in shard: one picture at a time

    part("open, read, close", read)
    contents = [Path(one.path).read_bytes() for one in located]
    hashes = part("SHA-256 of the pictures", lambda: [_sha(data) for data in contents])
    probes = part("header check", lambda: [images.probe(data, LIMITS) for data in contents])
    texts = part(
        "samples' JSON and its SHA-256",
        lambda: [
            (text := tar._sample_json(*one), _sha(text))
            for one in zip(located, contents, probes, hashes, strict=True)
        ],
    )
    path = scratch / "ours.tar"
    with open(path, "wb") as file:
        samples = SampleTar(file.fileno())
        keys = [one.picture.key for one in located]

        def write() -> None:
            for key, data, (text, _) in zip(keys, contents, texts, strict=True):
                samples.add(key, {"jpg": data, "json": text})
            samples.close()

        part("tar headers, write, start of the flush", write)
        part("rest of the flush to disk", lambda: os.fsync(file.fileno()))
    path.unlink()
    members = [
        Member(key, "jpg", 0, len(data), sha, 0, len(text), text_sha, one.picture.text)
        for key, data, sha, (text, text_sha), one in zip(
            keys, contents, hashes, texts, located, strict=True
        )
    ]

    def index() -> str:
        return tar._index(Tar(path, "train", len(keys), 0, 0, table_digest(members)), members)

    part("index", index)
    return found


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
