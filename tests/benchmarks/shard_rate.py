"""The rate of `shard` with the header check, against `tar cf` over the same files.

    python tests/benchmarks/shard_rate.py [--images DIR] [--files 1500] [--runs 7]

Prints the median over alternating runs of seconds and of the ratio of the two rates, with the
files in the page cache (warm: `tar` then only copies memory) and after they are dropped from it
(cold: what an archive larger than memory is like), and for `tar cf` followed by a flush to disk,
which `shard` always does. Imports are not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import webdataset
from photos import make_pictures

from pipeline.config import Config
from pipeline.shard import shard


def drop_from_cache(files: list[Path]) -> None:
    os.sync()
    for path in files:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def run_tar(scratch: Path, folder: Path, names: Path) -> tuple[float, float]:
    """Seconds of `tar cf`, and of that with a flush to disk."""
    target = scratch / "plain.tar"
    target.unlink(missing_ok=True)
    started = time.perf_counter()
    subprocess.run(
        ["tar", "-c", "-f", str(target), "-C", str(folder), "-T", str(names)], check=True
    )
    plain = time.perf_counter() - started
    with open(target, "rb") as file:
        os.fsync(file.fileno())
    return plain, time.perf_counter() - started


def run_shard(scratch: Path, config: Config) -> float:
    shutil.rmtree(scratch / "work", ignore_errors=True)
    started = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
        shard(config, scratch / "work")
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, help="a folder of pictures (default: make them)")
    parser.add_argument("--files", type=int, default=1500, help="how many to make, or to use")
    parser.add_argument("--runs", type=int, default=7, help="alternating runs of each")
    parser.add_argument("--shard-size", type=int, default=250)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        folder = arguments.images
        if folder is None:
            folder = scratch / "images"
            make_pictures(folder, arguments.files)
        files = sorted(path for path in folder.iterdir() if path.is_file())[: arguments.files]
        names = scratch / "names.txt"
        names.write_text("".join(f"{path.name}\n" for path in files))
        rows = [{"image": path.name, "caption": "a photo of " + path.stem} for path in files]
        (scratch / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = {"kind": "jsonl", "annotations": str(scratch / "rows.jsonl")}
        config = Config.model_validate(
            {
                "shard": {
                    "sources": [{**source, "images": str(folder.absolute())}],
                    "shard_size": arguments.shard_size,
                }
            }
        )
        size = sum(path.stat().st_size for path in files)
        print(
            f"{len(files):,} files, {size / len(files) / 1000:.0f} kB each, "
            f"{os.cpu_count()} CPUs, webdataset {webdataset.__version__}, {arguments.runs} runs"
        )
        for cache in ("warm", "cold"):
            measure(cache, scratch, folder, files, names, config, arguments.runs)


def measure(
    cache: str,
    scratch: Path,
    folder: Path,
    files: list[Path],
    names: Path,
    config: Config,
    runs: int,
) -> None:
    plain, flushed, ours = [], [], []
    for run in range(runs + 1):
        for tool in ("tar", "shard"):
            if cache == "cold":
                drop_from_cache(files)
            if tool == "shard":
                ours.append(run_shard(scratch, config))
            else:
                seconds = run_tar(scratch, folder, names)
                plain.append(seconds[0])
                flushed.append(seconds[1])
        if run == 0:  # the first round fills caches and is not counted
            plain, flushed, ours = [], [], []
    for label, tar in (("tar cf", plain), ("tar cf + flush", flushed)):
        ratio = statistics.median(t / s for t, s in zip(tar, ours, strict=True))
        print(
            f"{cache}  {label:14}  {len(files) / statistics.median(tar):8,.0f} files/s   "
            f"shard {len(files) / statistics.median(ours):8,.0f} files/s   ratio {ratio:.2f}"
        )


if __name__ == "__main__":
    main()
