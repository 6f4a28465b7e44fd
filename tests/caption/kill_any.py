"""Runs a captioning command again and again, killing its processes at random, and compares tables.

    python tests/caption/kill_any.py --kills 50 --seconds 2 12 WORK -- \\
        captionmill caption photos --table {table} --model DIR

A first run is left alone. Then tables are made whose runs lose a process by SIGKILL, the run
itself, its captioning process, or both, after random times, until they are finished all the same;
and further tables, until there were enough kills. Prints one JSON line; ends with 1 if a table
differs from the first one in a byte, or a run with an error that no kill explains.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path


def children(pid: int) -> list[int]:
    """Processes that a process started and that are not dead."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(path.parent.name))
    return found


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def start(command: list[str], table: Path) -> subprocess.Popen[str]:
    words = [word.replace("{table}", str(table)) for word in command]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def content(table: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(table.glob("*.parquet"))}


def killed_until_finished(
    command: list[str], table: Path, moments: random.Random, span: tuple[float, float], most: int
) -> tuple[Counter[str], list[str]]:
    """Kills by who was killed, and what the run that finished or failed printed."""
    kills: Counter[str] = Counter()
    while True:
        run, hit = start(command, table), False
        while kills.total() < most:
            try:
                run.wait(moments.uniform(*span))
                break
            except subprocess.TimeoutExpired:
                victim = moments.choice(("run", "worker", "both"))
            workers = children(run.pid)
            if victim != "run" and workers and kill(moments.choice(workers)):
                kills["worker"] += 1
                hit = True
            if victim != "worker":
                kills["run"] += kill(run.pid)
                break
        _, printed = run.communicate()
        if run.returncode == 0:
            return kills, []
        if run.returncode != -signal.SIGKILL and not hit:
            return kills, printed.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seconds", type=float, nargs=2, default=(2.0, 12.0))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("work", type=Path)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    moments, whole = random.Random(given.seed), given.work / "whole"
    first = start(given.command, whole)
    _, printed = first.communicate()
    assert first.returncode == 0, printed
    kills: Counter[str] = Counter()
    tables, wrong = 0, []
    while kills.total() < given.kills and tables < given.kills:
        table = given.work / f"killed-{tables:03d}"
        left = given.kills - kills.total()
        found, error = killed_until_finished(
            given.command, table, moments, tuple(given.seconds), left
        )
        kills.update(found)
        tables += 1
        if error or content(table) != content(whole):
            wrong.append({table.name: error})
    print(json.dumps({"tables": tables, "kills": kills, "wrong": wrong}))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
