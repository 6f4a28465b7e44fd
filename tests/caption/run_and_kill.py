"""Run by test_killed.py: caption in child processes that die by SIGKILL, again and again.

A process of its own, so that the imports are paid once and every child starts clean.
Prints one JSON line.
"""

from __future__ import annotations

import functools
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import torch
from stub_captioner import StubCaptioner

from pipeline import storage
from pipeline.caption import caption, schema
from pipeline.config import CaptionConfig

CONFIG = CaptionConfig(unit_size=5, batch_size=3)


def child(archive: Path, table: Path, before: Callable[[], None], seconds: float = 0.0) -> int:
    """Fork, call `before` in the child, caption there, `seconds` a batch; the process id."""
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        before()
        try:
            caption(CONFIG, [archive], table, StubCaptioner(seconds=seconds))
        finally:
            sys.stderr.flush()
        os._exit(0)
    return pid


def parts(table: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in table.glob("*.parquet")}


def finish(archive: Path, table: Path) -> None:
    _, status = os.waitpid(child(archive, table, lambda: None), 0)
    assert os.waitstatus_to_exitcode(status) == 0


def die_at_rename(number: int, *, after: bool) -> None:
    """In this process, SIGKILL at the numbered rename of a commit: before or after it."""
    left, replace = number, os.replace

    def deadly(source: Path, target: Path) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            return replace(source, target)
        if after:
            replace(source, target)
        os.kill(os.getpid(), signal.SIGKILL)

    storage.os.replace = deadly


def at_every_commit(archive: Path, tables: Path) -> dict[str, int]:
    """A fresh table for every moment: killed at the n-th commit, then run to its end."""
    kills = redone = 0
    for number in range(1000):
        for after in (False, True):
            table = tables / f"{number:02d}-{after}"
            moment = functools.partial(die_at_rename, number, after=after)
            _, status = os.waitpid(child(archive, table, moment), 0)
            if not os.WIFSIGNALED(status):
                return {"kills": kills, "redone": redone}
            kills += 1
            before = parts(table)
            finish(archive, table)
            now = parts(table)
            redone += sum(now[name] != time for name, time in before.items())
    raise RuntimeError("a run that never ends")


def at_random(archive: Path, table: Path, least: int) -> dict[str, int]:
    """One table, killed from outside after random times, until `least` kills; then finished."""
    moments = random.Random(0)
    kills = redone = runs = 0
    seen: dict[str, int] = {}
    while kills < least and runs < 40 * least:
        runs += 1
        pid = child(archive, table, lambda: None, seconds=0.01)
        time.sleep(moments.uniform(0.005, 0.12))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        finished = not os.WIFSIGNALED(status)
        now = parts(table)
        redone += sum(now.get(name) != moment for name, moment in seen.items())
        seen = now
        kills += not finished
        if finished:
            break
    finish(archive, table)
    now = parts(table)
    redone += sum(now.get(name) != moment for name, moment in seen.items())
    return {"kills": kills, "redone": redone}


if __name__ == "__main__":
    how, archive, table = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    # What libraries import at their first use is thereby paid before the forks.
    schema.part_bytes(schema.part_table([]))
    pa.array(["x"]).to_pylist()
    if how == "commits":
        print(json.dumps(at_every_commit(archive, table)))
    else:
        print(json.dumps(at_random(archive, table, least=12)))
