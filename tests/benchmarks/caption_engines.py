"""Captioning by the Ray engine beside the local one, in alternating runs over the same pictures.

    python tests/benchmarks/caption_engines.py --captioner DIR --images DIR [--count 400] [--runs 3]
        [--workers 2] [--beam 3] [--address HOST:PORT]

Prints pictures a second, medians of the runs: from the first committed unit to the last one, which
leaves the start out, and of whole commands; and their ratios. Without --address every Ray run starts
a cluster on this machine. Ends with 1 if the tables differ in a byte.
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

ROOT = Path(__file__).parents[2]

# What `captionmill caption` does, without the command line, which asks for an installed package.
COMMAND = """
import sys
from pathlib import Path
from flows.direct import caption_archives
from pipeline.config import load_config
images, table, *overrides = sys.argv[1:]
caption_archives(load_config(None, overrides), Path(table).parent, [Path(images)], Path(table))
"""


def run(images: Path, table: Path, settings: list[str]) -> tuple[float, float]:
    """Pictures a second: between the first and the last commit, and of the whole command."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(images), str(table), *settings],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"captioning failed:\n{done.stderr}")
    count = len(list(images.iterdir()))
    moments = sorted(path.stat().st_mtime for path in table.glob("*.parquet"))
    later = count * (len(moments) - 1) / len(moments)
    return later / (moments[-1] - moments[0]), count / seconds


def content(table: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(table.glob("*.parquet"))}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--captioner", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--beam", type=int, default=3)
    parser.add_argument("--unit-size", type=int, default=20)
    parser.add_argument("--address")
    given = parser.parse_args()
    settings = [
        f"caption.model={json.dumps(str(given.captioner))}",
        f"caption.workers={given.workers}",
        f"caption.beam={given.beam}",
        f"caption.unit_size={given.unit_size}",
    ]
    ray = [
        "caption.engine=ray",
        *([f"caption.ray_address={given.address}"] if given.address else []),
    ]
    rates: dict[str, list[tuple[float, float]]] = {"local": [], "ray": []}
    tables = []
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "images"
        images.mkdir()
        chosen = sorted(path for path in given.images.iterdir() if path.is_file())
        count = given.count // given.unit_size * given.unit_size  # whole units
        for path in chosen[:count]:
            shutil.copy(path, images)
        for number in range(given.runs):
            for engine, more in (("local", []), ("ray", ray)):
                table = Path(scratch) / f"{engine}-{number}"
                rates[engine].append(run(images, table, settings + more))
                tables.append(content(table))
        working, whole = (
            {name: statistics.median(rate[i] for rate in found) for name, found in rates.items()}
            for i in (0, 1)
        )
        print(
            f"{len(list(images.iterdir()))} pictures, {given.workers} workers, beam {given.beam},"
            f" {given.runs} runs each, {os.cpu_count()} cores"
        )
    for label, found in (("at work", working), ("whole command", whole)):
        print(
            f"{label:<14} local {found['local']:8.2f} img/s   ray {found['ray']:8.2f} img/s"
            f"   ray / local {found['ray'] / found['local']:.3f}"
        )
    same = all(table == tables[0] for table in tables)
    print("tables", "equal" if same else "DIFFER")
    sys.exit(not same)


if __name__ == "__main__":
    main()
