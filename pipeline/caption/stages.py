"""Where the time of a bulk run goes: busy seconds a stage, and which stage the others wait for."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.caption.timeline import Timeline, now

STAGES = ("read", "decode", "encode", "search", "write")
"""In the order that a picture goes through them."""

LANES: tuple[tuple[str, ...], ...] = (("read", "decode"), ("encode", "search"), ("write",))
"""Stages that take turns on the same threads."""


class Stages:
    """Busy wall-clock seconds a stage; may be added to from several threads.

    Of a recording one it is known when they were, too, and of which process: a profile.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.recorded: dict[str, Recorded] = {}
        """By process, see `me`."""
        self._mine: Recorded | None = None
        self._lock = threading.Lock()

    def record(self, readers: int = 0) -> None:
        """Note from now on when a stage was busy; `readers` threads read and decode here."""
        self._mine = self.recorded.setdefault(me(), Recorded(readers))

    @contextlib.contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Count the time of the block as `stage`."""
        began = now()
        try:
            yield
        finally:
            self.span(stage, began, now())

    def span(self, stage: str, began: float, ended: float) -> None:
        """Count the time between two readings of `timeline.now`."""
        with self._lock:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + ended - began
            if self._mine is not None:
                self._mine.timeline.add(stage, began, ended)

    def add(self, taken: Mapping[str, Any]) -> None:
        """Count what another one's `take` gave."""
        with self._lock:
            for stage, more in taken["seconds"].items():
                self.seconds[stage] = self.seconds.get(stage, 0.0) + more
            for name, told in taken.get("recorded", {}).items():
                self.recorded.setdefault(name, Recorded(told["readers"])).merge(told)

    def take(self) -> dict[str, Any]:
        """What was counted since the last call, in plain values."""
        with self._lock:
            taken: dict[str, Any] = {"seconds": self.seconds}
            self.seconds = {}
            if self.recorded:
                taken["recorded"] = {name: it.take() for name, it in self.recorded.items()}
        return taken

    def report(self) -> dict[str, float]:
        """Seconds by stage, in the order of the stages."""
        with self._lock:
            return {stage: round(self.seconds.get(stage, 0.0), 3) for stage in STAGES}


class Recorded:
    """A process as a profile shows it."""

    def __init__(self, readers: int) -> None:
        self.timeline = Timeline()
        self.readers = readers
        """Threads that read and decode."""
        self.cpu = 0.0
        """Seconds of a core that the process has used."""

    def take(self) -> dict[str, Any]:
        """What came since the last call."""
        return {
            "readers": self.readers,
            "cpu": time.process_time(),
            "timeline": self.timeline.take(),
        }

    def merge(self, told: Mapping[str, Any]) -> None:
        """Add what another one's `take` told."""
        self.readers, self.cpu = told["readers"], told["cpu"]
        self.timeline.merge(told["timeline"])


def me() -> str:
    """This process among those of several machines."""
    return f"{platform.node()}-{os.getpid()}"


def bottleneck(seconds: Mapping[str, float], threads: Mapping[str, int]) -> str | None:
    """The stage that the others wait for; None where nothing was measured.

    `threads` is how many threads a stage has (1 where it is not named). The stages that
    share the busiest threads are looked at, and the longest of them is it.
    """
    if not any(seconds.values()):
        return None

    def load(lane: tuple[str, ...]) -> float:
        return sum(seconds.get(stage, 0.0) / threads.get(stage, 1) for stage in lane)

    busiest = max(LANES, key=load)
    return max(busiest, key=lambda stage: seconds.get(stage, 0.0))
