"""Where the time of a bulk run goes: busy seconds a stage, and which stage the others wait for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Mapping

STAGES = ("read", "decode", "encode", "search", "write")
"""In the order that a picture goes through them."""

LANES: tuple[tuple[str, ...], ...] = (("read", "decode"), ("encode", "search"), ("write",))
"""Stages that take turns on the same threads."""


class Stages:
    """Busy wall-clock seconds a stage; may be added to from several threads."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def busy(self, stage: str) -> Iterator[None]:
        """Count the time of the block as `stage`."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - began})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Count seconds that were measured elsewhere."""
        with self._lock:
            for stage, more in seconds.items():
                self.seconds[stage] = self.seconds.get(stage, 0.0) + more

    def take(self) -> dict[str, float]:
        """What was counted since the last call."""
        with self._lock:
            taken, self.seconds = self.seconds, {}
        return taken

    def report(self) -> dict[str, float]:
        """Seconds by stage, in the order of the stages."""
        with self._lock:
            return {stage: round(self.seconds.get(stage, 0.0), 3) for stage in STAGES}


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
