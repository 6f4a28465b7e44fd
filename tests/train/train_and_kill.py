"""Run by test_killed.py: train in child processes that die by SIGKILL, again and again.

A process of its own, so that the imports are paid once and every child starts clean. Nothing is
tracked: MLflow's start would cost more than these trainings. Prints one JSON line.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import torch
from coloured_squares import settings

from pipeline import storage
from pipeline import train as stage
from pipeline.records import Checkpoint
from pipeline.shard import shard
from pipeline.tracking import runs
from pipeline.train import train

runs.installed = lambda: False
# Finished runs keep their checkpoints here: everything in the last one is compared.
stage.shutil = types.SimpleNamespace(rmtree=lambda *_, **__: None)


def child(config, work: Path, before: Callable[[], None]) -> int:
    """Fork, call `before` in the child, train there; the process id."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            torch.set_num_threads(1)
            before()
            train(config, work, shard(config, work))
            status = 0
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def die_at_rename(number: int, after: bool) -> None:
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


def outcome(config, work: Path) -> dict[str, object]:
    """The finished run's weights and scores; it has to be finished."""
    record: Checkpoint = train(config, work, shard(config, work))
    weights = (Path(record.path) / "model.safetensors").read_bytes()
    metrics = [json.loads(line) for line in next(work.glob("train/*/metrics.jsonl")).open()]
    last = max(work.glob("train/*/checkpoints/[0-9]*"))
    state = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(last.iterdir())}
    points = [(m["key"], m["step"]) for m in metrics]
    exact = [m for m in metrics if "_second" not in m["key"] and "waiting" not in m["key"]]
    values = [(m["key"], m["step"], m["value"]) for m in exact]
    return {
        "sha256": hashlib.sha256(weights).hexdigest(),
        "state": state,
        "record": [record.epoch, record.step, record.validation_cider],
        "repeated": len(points) - len(set(points)),
        "samples": {p.name: p.read_text() for p in sorted(work.glob("train/*/samples/*"))},
        "halves": sorted(str(p.relative_to(work)) for p in work.rglob(f"{storage.TEMPORARY}*")),
        "metrics": hashlib.sha256(json.dumps(values).encode()).hexdigest(),
    }


def killed(config, work: Path, least: int) -> int:
    """Train in `work`, killed at random commits and at random times; how often."""
    moments, last = random.Random(0), 0.0
    for kills in range(20 * least):
        at_commit = moments.random() < 0.5
        before = (
            (lambda: die_at_rename(moments.randint(3, 25), moments.random() < 0.5))
            if at_commit
            else lambda: None
        )
        started = time.monotonic()
        pid = child(config, work, before)
        moments.random()  # the child's draws are its own
        if not at_commit:
            # Somewhere between the start and what a whole run may take.
            time.sleep(moments.uniform(0.02, max(last, 0.6)))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSIGNALED(status):
            assert os.waitstatus_to_exitcode(status) == 0
            return kills
        last = max(last, min(time.monotonic() - started, 2.0))
    raise RuntimeError("a run that never ends")


if __name__ == "__main__":
    data, work, least = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    config = settings(data, *sys.argv[4:])
    torch.set_num_threads(1)
    whole = outcome(config, work / "whole")
    kills, round_ = 0, 0
    cuts = []
    while kills < least:
        cut = work / f"cut-{round_}"
        kills += killed(config, cut, least)
        cuts.append(outcome(config, cut))
        round_ += 1
    print(json.dumps({"whole": whole, "cuts": cuts, "kills": kills}))
