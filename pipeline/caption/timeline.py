"""When a process was busy with what: seconds by stage and stretch of time, small however long the run.

Stretches are whole multiples of a length that doubles when there are too many of them, counted
from 1970, so that the timelines of several processes lie on one another.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

SHORTEST = 0.05
"""Seconds of a stretch."""

MOST = 2048
"""Stretches."""

_EPOCH = time.time() - time.perf_counter()


def now() -> float:
    """Seconds since 1970, which never go back in this process."""
    return _EPOCH + time.perf_counter()


def process_began() -> float:
    """When this process was started, by `now`; where the system does not tell it: now."""
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return now() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks)
    return now()


class Timeline:
    """Busy seconds by stage and stretch; not safe among threads."""

    def __init__(self) -> None:
        self.length = SHORTEST
        """Seconds of a stretch."""
        self.stages: dict[str, dict[int, float]] = {}
        """Seconds by stage and stretch; stretch n begins n * length after 1970."""
        self._extent: tuple[int, int] | None = None

    def add(self, stage: str, began: float, ended: float) -> None:
        """Count a span of time (seconds since 1970) as `stage`."""
        self._cover(began, ended)
        stretches = self.stages.setdefault(stage, {})
        for number in range(int(began / self.length), int(ended / self.length) + 1):
            start = number * self.length
            inside = min(ended, start + self.length) - max(began, start)
            stretches[number] = stretches.get(number, 0.0) + inside

    def merge(self, told: dict[str, Any]) -> None:
        """Add what another one's `take` told."""
        while self.length < told["length"]:
            self._double()
        for stage, numbers, seconds in told["stages"]:
            for number, more in zip(numbers, seconds, strict=True):
                middle = (number + 0.5) * told["length"]
                self._cover(middle, middle)
                stretches, where = self.stages.setdefault(stage, {}), int(middle / self.length)
                stretches[where] = stretches.get(where, 0.0) + more

    def take(self) -> dict[str, Any]:
        """What was counted since the last call, in plain values."""
        told = {
            "length": self.length,
            "stages": [
                [stage, list(stretches), [round(seconds, 6) for seconds in stretches.values()]]
                for stage, stretches in self.stages.items()
            ],
        }
        self.length, self.stages, self._extent = SHORTEST, {}, None
        return told

    def seconds(self) -> dict[str, float]:
        """Seconds by stage."""
        return {stage: sum(stretches.values()) for stage, stretches in self.stages.items()}

    def extent(self, *stages: str) -> tuple[float, float] | None:
        """Where the first stretch with one of these stages begins, and the last one ends."""
        numbers = [number for stage in stages for number in self.stages.get(stage, ())]
        return (min(numbers) * self.length, (max(numbers) + 1) * self.length) if numbers else None

    def _cover(self, began: float, ended: float) -> None:
        """Make stretches long enough that there are not too many."""
        while True:
            first, last = int(began / self.length), int(ended / self.length)
            if self._extent is not None:
                first, last = min(first, self._extent[0]), max(last, self._extent[1])
            if last - first < MOST:
                break
            self._double()
        self._extent = (first, last)

    def _double(self) -> None:
        self.length *= 2
        if self._extent is not None:
            self._extent = (self._extent[0] // 2, self._extent[1] // 2)
        for stage, stretches in self.stages.items():
            halved: dict[int, float] = {}
            for number, seconds in stretches.items():
                halved[number // 2] = halved.get(number // 2, 0.0) + seconds
            self.stages[stage] = halved
