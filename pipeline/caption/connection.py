"""A worker as whoever gives it work sees it, wherever it runs: this machine, or another node.

What is said is in `wire.py`. A worker is `worker.Worker`, which reads archives by their paths: of
a worker on another node the paths must lead to the same bytes there.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from pipeline.caption.tasks import Step, Task
from pipeline.caption.wire import Frame


class Connection(Protocol):
    """One worker, from its start to its end; one thread receives, another sends."""

    def send(self, kind: str, head: dict[str, Any]) -> None:
        """Send a frame; may wait for the worker. If it is gone, the next `receive` tells."""

    def receive(self) -> Frame | None:
        """The next frame, the first of which is `ready`; None when the worker is gone.

        Raises:
            CaptionmillError: what it met, if it says so.
            RuntimeError: it met a bug.
        """

    def end(self) -> None:
        """Kill it, if it is alive; `receive` then gives None. It holds nothing that could be lost."""

    def autopsy(self) -> tuple[str, bool]:
        """How it ended, in words, and whether of its own doing or for want of memory.

        Asked once `receive` gave None; False for what came from outside (a kill, a lost node), which
        may not be held against a picture.
        """


Connect = Callable[[int], Connection]
"""Starts the worker of a number, counted from 0; returns before it is ready. The same number is
started again when its worker dies."""


@dataclass(eq=False)
class Hand:
    """A worker of a number, and what it has."""

    number: int
    connection: Connection
    stillborn: int = 0
    """Processes before this one that died before they were given anything, in a row."""
    ready: bool = False
    served: bool = False
    """It was given a unit: what it dies of is that unit's affair."""
    tasks: dict[str, Task] = field(default_factory=dict)
    """By unit."""
    step: Step | None = None
    """What a careful one is about to do."""
    heard: float = field(default_factory=time.monotonic)
    """When it last said something, or was told something that it waited for."""
    hung: bool = False
    """It was ended since it did nothing any more."""
    spared: bool = False
    """It was ended for what others had left undone, which is not held against what it had."""
    outbox: queue.SimpleQueue[tuple[str, dict[str, Any]] | None] = field(
        default_factory=queue.SimpleQueue
    )
    """What it is to be told, by a thread of its own; None ends that."""

    def tell(self, kind: str, head: dict[str, Any]) -> None:
        """Send a frame, later: one worker that does not listen may not hold up the others."""
        self.outbox.put((kind, head))


class Death(NamedTuple):
    """How a worker ended: see `Connection.autopsy`."""

    how: str
    crashed: bool


class Event(NamedTuple):
    """What a worker said, or what became of it."""

    hand: Hand
    what: Frame | Death | BaseException
