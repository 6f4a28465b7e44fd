"""Plans a folder of a million files by names and stat alone: seconds, peak memory; and plans it again.

    python tests/benchmarks/plan_million.py [WORK] [--files 1000000]

Beside it, in the same run: `os.walk` with a stat of every file, which any listing pays. The files
are empty and stay in WORK (a temporary directory by default, removed at the end).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PER_FOLDER = 1000


def make(root: Path, files: int) -> None:
    for number in range(files):
        folder = root / f"{number // PER_FOLDER:05d}"
        if number % PER_FOLDER == 0:
            folder.mkdir(parents=True, exist_ok=True)
        os.close(os.open(folder / f"IMG_{number:08d}.jpg", os.O_CREAT | os.O_WRONLY))


def walk(root: Path) -> int:
    return sum(
        os.stat(os.path.join(path, name)).st_size >= 0  # noqa: PTH116, PTH118  as a script would
        for path, _, names in os.walk(root)
        for name in names
    )


def plan(root: Path, table: Path) -> int:
    from pipeline.caption.archives import name_sources, open_archives
    from pipeline.caption.plan import Relisted
    from pipeline.caption.table import Table

    kept, relisted = Table(table), Relisted()
    for source in name_sources(open_archives([root]), kept.plan.sources()):
        done = {unit for unit, _, _ in kept.plan.unit_rows()}
        kept.plan.extend(source, 256, relisted, done=done)
    return relisted.added


def step(what: str, root: Path, table: Path) -> None:
    """In a process of its own, for its own peak of memory."""
    began, cpu = time.perf_counter(), time.process_time()
    found = walk(root) if what == "walk" else plan(root, table)
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{what:<12}{seconds:8.1f} s {cpu:8.1f} s of CPU {peak:8,} MB {found:12,} files")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        root = work / "million"
        if given.step:
            return step(given.step[0], root, Path(given.step[1]))
        if not root.exists():
            make(root, given.files)
        for what in ("walk", "plan", "plan again"):
            again = ["--step", what, str(Path(temporary) / "table")]
            subprocess.run([sys.executable, __file__, str(work), *again], check=True)
    return None


if __name__ == "__main__":
    main()
