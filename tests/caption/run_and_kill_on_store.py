"""Run by test_table_on_store.py: caption into object storage in child processes that die by SIGKILL.

A process of its own, so that the imports are paid once and every child starts clean. Prints one
JSON line.
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
import s3fs  # noqa: F401  paid before the forks
import torch
from stub_captioner import StubCaptioner

from pipeline.caption import caption, compact, rollback, schema
from pipeline.config import CaptionConfig
from pipeline.remote import RemotePath, location, s3

CONFIG = CaptionConfig(unit_size=5, batch_size=3)


def child(
    archive: Path, table: RemotePath, before: Callable[[], None], seconds: float = 0.0
) -> int:
    """Fork, call `before` in the child, caption there, `seconds` a batch; the process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            before()
            caption(CONFIG, [archive], table, StubCaptioner(seconds=seconds))
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def work(what: str, archive: Path, table: RemotePath) -> None:
    """One step of a table's life, in this process."""
    newer = StubCaptioner(fingerprint="newer", model_version="4")
    if what == "refresh":
        caption(CONFIG, [archive], table, newer, refresh=True)
    elif what == "rollback":
        rollback(table)
    elif what == "compact":
        compact(table, table.with_name(f"{table.name}-large"), rows=7)


def worker(
    what: str, archive: Path, table: RemotePath, before: Callable[[], None] = lambda: None
) -> int:
    """`work` in a process of its own; how that ended."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            before()
            work(what, archive, table)
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def updates(archive: Path, tables: RemotePath) -> dict[str, object]:
    """For each step, fresh tables on which it is killed at the n-th object, and then run again."""
    names: dict[str, list[str]] = {"refresh": [], "rollback": [], "compact": []}
    for what, found in names.items():
        for number in range(0, 1000, 5):
            table = tables / f"{what}-{number:02d}"
            finish(archive, table)
            if what == "rollback":
                assert worker("refresh", archive, table) == 0
            moment = functools.partial(die_at_put, number, after=number % 2 == 0)
            if worker(what, archive, table, moment) == 0:
                break
            assert worker(what, archive, table) == 0
            found.append(table.name)
    return {"kills": sum(map(len, names.values())), "wanted": 9, "tables": names}


def finish(archive: Path, table: RemotePath) -> None:
    _, status = os.waitpid(child(archive, table, lambda: None), 0)
    assert os.waitstatus_to_exitcode(status) == 0


def die_at_put(number: int, *, after: bool) -> None:
    """In this process, SIGKILL at the numbered object that is put: before or after it."""
    left, put = number, s3.put

    def deadly(*what: object, **conditions: str) -> str:
        nonlocal left
        left -= 1
        if left >= 0:
            return put(*what, **conditions)
        if after:
            put(*what, **conditions)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    s3.put = deadly


def at_every_commit(archive: Path, tables: RemotePath) -> dict[str, object]:
    """A fresh table for every moment: killed at the n-th object, then run to its end."""
    names: list[str] = []
    for number in range(1000):
        name = f"{number:02d}"
        # Before the object is there and after: what is between two of them is both.
        moment = functools.partial(die_at_put, number, after=number % 2 == 0)
        _, status = os.waitpid(child(archive, tables / name, moment), 0)
        if not os.WIFSIGNALED(status):
            return {"kills": len(names), "wanted": 9, "tables": names}
        names.append(name)
        finish(archive, tables / name)
    raise RuntimeError("a run that never ends")


def at_random(archive: Path, tables: RemotePath, least: int) -> dict[str, object]:
    """Tables killed from outside after random times, until there were `least` kills."""
    moments, names, kills = random.Random(0), [], 0
    whole = 0.5
    while kills < least:
        names.append(f"random-{len(names)}")
        finished = False
        while not finished and kills < least:
            began = time.monotonic()
            pid = child(archive, tables / names[-1], lambda: None, seconds=0.01)
            time.sleep(moments.uniform(0.05, whole))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            finished = not os.WIFSIGNALED(status)
            # Somewhere between the start and what a run takes here.
            whole = time.monotonic() - began + 0.3
            kills += not finished
        finish(archive, tables / names[-1])
    return {"kills": kills, "wanted": least, "tables": names}


if __name__ == "__main__":
    how, archive, tables = sys.argv[1], Path(sys.argv[2]), location(sys.argv[3])
    assert isinstance(tables, RemotePath)
    # What libraries import at their first use is thereby paid before the forks.
    schema.part_bytes(schema.part_table([]))
    pa.array(["x"]).to_pylist()
    if how == "updates":
        print(json.dumps(updates(archive, tables)))
    elif how == "commits":
        print(json.dumps(at_every_commit(archive, tables)))
    else:
        print(json.dumps(at_random(archive, tables, least=12)))
