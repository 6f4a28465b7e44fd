"""Captioning by the Ray engine beside the local one, in alternating runs over the same pictures.

    python tests/benchmarks/caption_engines.py --captioner DIR --images DIR... [--count 400] [--runs 3]
        [--workers 2] [--beam 3] [--unit-size 256] [--address HOST:PORT]

Prints pictures a second, medians of the runs: from the first committed unit to the last one, which
leaves the start out, and of whole commands; and the medians of each round's ratio. Of each folder the
first --count photos, or all. Without --address every Ray run starts a cluster on this machine. Ends
with 1 if the tables differ in a byte.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]

# What `captionmill caption` does, without the command line, which asks for an installed package.
COMMAND = """
import json, sys
from pathlib import Path
from flows.direct import caption_archives
from pipeline.config import load_config
table, (folders, overrides) = Path(sys.argv[1]), map(json.loads, sys.argv[2:])
caption_archives(load_config(None, overrides), table.parent, [*map(Path, folders)], table)
"""


def run(folders: list[Path], table: Path, settings: list[str]) -> tuple[float, float]:
    """Pictures a second: between the first and the last commit, and of the whole command."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    asked = json.dumps(settings)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(table), json.dumps([*map(str, folders)]), asked],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"captioning failed:\n{done.stderr}")
    parts = sorted(
        (path.stat().st_mtime, pq.read_metadata(path).num_rows) for path in table.glob("*.parquet")
    )
    count = sum(rows for _, rows in parts)
    return (count - parts[0][1]) / (parts[-1][0] - parts[0][0]), count / seconds


def content(table: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(table.glob("*.parquet"))}


def first_photos(folder: Path, count: int, scratch: Path) -> Path:
    """A copy of a folder's first photos."""
    target = scratch / folder.name
    target.mkdir()
    for path in sorted(path for path in folder.iterdir() if path.is_file())[:count]:
        shutil.copy(path, target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--captioner", type=Path, required=True)
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--beam", type=int, default=3)
    parser.add_argument("--unit-size", type=int, default=256)
    parser.add_argument("--address")
    given = parser.parse_args()
    settings = [
        f"caption.model={json.dumps(str(given.captioner))}",
        f"caption.workers={given.workers}",
        f"caption.beam={given.beam}",
        f"caption.unit_size={given.unit_size}",
    ]
    on_ray = [
        "caption.engine=ray",
        *([f"caption.ray_address={given.address}"] if given.address else []),
    ]
    rates: dict[str, list[tuple[float, float]]] = {"local": [], "ray": []}
    tables = []
    with tempfile.TemporaryDirectory() as scratch:
        folders = [path.absolute() for path in given.images]
        if given.count is not None:
            folders = [first_photos(path, given.count, Path(scratch)) for path in folders]
        for number in range(given.runs):
            for engine, more in (("local", []), ("ray", on_ray)):
                table = Path(scratch) / f"{engine}-{number}"
                rates[engine].append(run(folders, table, settings + more))
                tables.append(content(table))
        pictures = sum(1 for folder in folders for path in folder.rglob("*") if path.is_file())
    print(
        f"{pictures:,} pictures, {given.workers} workers, beam {given.beam},"
        f" {given.runs} runs each, {os.cpu_count()} cores"
    )
    for i, label in enumerate(("at work", "whole command")):
        local, ray = ([pair[i] for pair in rates[name]] for name in ("local", "ray"))
        ratio = statistics.median(r / x for r, x in zip(ray, local, strict=True))
        print(
            f"{label:<14} local {statistics.median(local):8.2f} img/s"
            f"   ray {statistics.median(ray):8.2f} img/s   ray / local {ratio:.3f}"
        )
    same = all(table == tables[0] for table in tables)
    print("tables", "equal" if same else "DIFFER")
    sys.exit(not same)


if __name__ == "__main__":
    main()
