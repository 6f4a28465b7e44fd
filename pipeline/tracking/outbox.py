"""Metrics on their way to the tracking server: on disk first, delivered when it answers, once.

    metrics.jsonl      a line a point: {"key", "value", "time", "step"}
    delivered.json     the last step that was delivered

A point keeps the time it was measured, so one that is sent twice (killed between sending and
noting it) is the same row to the server. Points of steps that were delivered are not sent again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline import storage
from pipeline.progress import say
from pipeline.tracking.runs import Run


class Point(BaseModel):
    """A metric's value at a step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    value: float
    time: int
    """When it was measured: milliseconds since 1970."""
    step: int


class Outbox:
    """The points of one run."""

    def __init__(self, directory: Path) -> None:
        self.file, self.mark = directory / "metrics.jsonl", directory / "delivered.json"
        self.points = self._read()
        self.delivered = self._mark()

    def _read(self) -> list[Point]:
        try:
            lines = self.file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        points, damaged = [], 0
        for line in lines:
            try:
                points.append(Point.model_validate_json(line))
            except ValidationError:
                damaged += 1
        if damaged:
            say("train", f"{damaged} damaged lines of {self.file} are left out")
        return points

    def _mark(self) -> int:
        try:
            return int(storage.read_json(self.mark)["step"])
        except FileNotFoundError:
            return -1
        except (ValueError, KeyError, TypeError):  # what is sent again is one row to the server
            say("train", f"{self.mark} is damaged: all metrics are delivered again")
            return -1

    def __len__(self) -> int:
        """Points that are still to be delivered."""
        return sum(point.step > self.delivered for point in self.points)

    def add(self, values: Mapping[str, float], step: int) -> None:
        """Note the finite ones of `values`; nothing is on disk before `commit`."""
        now = int(time.time() * 1000)
        self.points += [
            Point(key=key, value=float(value), time=now, step=step)
            for key, value in values.items()
            if math.isfinite(value)
        ]

    def commit(self) -> None:
        """Write the points down; call it before the checkpoint of their steps."""
        lines = [json.dumps(point.model_dump()) for point in self.points]
        storage.commit(self.file, "".join(line + "\n" for line in lines))

    def forget_after(self, step: int) -> None:
        """A run resumes at `step`: what it had noted of later steps comes again."""
        self.points = [point for point in self.points if point.step <= step]

    def deliver(self, run: Run) -> int:
        """Send what the run's server lacks; how many points wait because it does not answer."""
        waiting = [point for point in self.points if point.step > self.delivered]
        for first in range(0, len(waiting), 500):
            batch = waiting[first : first + 500]
            rows = [(point.key, point.value, point.time, point.step) for point in batch]
            if not run.log_points(rows):
                return len(waiting) - first
        if waiting:
            self.delivered = max(point.step for point in waiting)
            storage.commit_json(self.mark, {"step": self.delivered})
        return 0
