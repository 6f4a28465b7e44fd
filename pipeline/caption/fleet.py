"""The engine that captions in processes of their own, so that no picture can end the run.

A decoder that crashes ends one process alone. The units it had are tried again, each by itself and a
picture at a time, until one picture is to blame or none: see `attempts.py`. Processes write nothing;
what they finished is committed by the run, in the order of the plan, so that any may be killed.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Self

from pipeline.caption.connection import Connect, Death, Event, Hand
from pipeline.caption.dispatch import Dispatch
from pipeline.caption.marker import Marker
from pipeline.caption.stages import Stages
from pipeline.caption.tasks import Done
from pipeline.errors import WorkerError
from pipeline.progress import say

if TYPE_CHECKING:
    from pipeline.caption.engine import Run
    from pipeline.caption.plan import Unit

STARTS = 3
"""Deaths in a row of a worker's processes that were not given anything."""


class Fleet:
    """Workers, started as there is work for them, and again when they die."""

    def __init__(
        self,
        name: str,
        connect: Connect,
        workers: int | None = None,
        hang_seconds: float = math.inf,
    ) -> None:
        """No worker is started before it is entered.

        Args:
            name: of the engine, as reports call it.
            connect: starts a worker.
            workers: how many; None: as many as the first one says that its machine has room for.
            hang_seconds: that a worker may take over a step; one that takes longer is ended.
        """
        self.hang_seconds = hang_seconds
        self.name, self.connect, self.wanted = name, connect, workers
        self.stages = Stages()
        self.events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        """Of all workers. None wakes whoever waits."""
        self.hands: dict[int, Hand] = {}
        self._given_up: set[int] = set()
        self._marker: Marker | None = None
        self._threads = 1

    def __enter__(self) -> Self:
        # It loads the model while archives are listed.
        self._start(0)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def threads(self) -> Mapping[str, int]:
        """Threads a stage, of all workers."""
        ready = max(1, sum(hand.ready for hand in self.hands.values()))
        reading = ready * self._threads
        return {"read": reading, "decode": reading, "encode": ready, "search": ready}

    def end(self) -> None:
        """End all workers; no other is started."""
        ended, self.hands = self.hands, {}
        for hand in ended.values():
            hand.connection.end()

    def marker(self) -> Marker:
        """What rows are made with; waits until a worker has loaded the model.

        Raises:
            WorkerError: processes die before they have.
            CaptionmillError: the model cannot be loaded.
        """
        if not self.hands:
            self._start(0)
        while self._marker is None:
            event = self.events.get()
            assert event is not None
            self.hear(event)
        return self._marker

    def recruit(self) -> None:
        """Start the workers that are not yet: there is work for them."""
        for number in range(self.wanted or 1):
            if number not in self.hands and number not in self._given_up:
                self._start(number)

    def hear(self, event: Event) -> None:
        """Take note of a worker that became ready, or that died without any work.

        Raises:
            WorkerError: workers die before they are ready; or one loaded another model.
            CaptionmillError: what a worker met.
        """
        hand, what = event
        if self.hands.get(hand.number) is not hand:
            return  # it was ended
        if isinstance(what, BaseException):
            raise what
        if isinstance(what, Death):
            self.replace(hand, what)
            return
        marker = Marker.model_validate(what.head["marker"])
        if self._marker not in (None, marker):
            raise WorkerError(
                "the model or its settings changed during the run: run the same command again"
            )
        self._marker, hand.ready = marker, True
        self._threads = what.head["threads"]
        if self.wanted is None:
            self.wanted = what.head["room"]

    def replace(self, hand: Hand, death: Death) -> None:
        """Another worker for one that died; none, if they cannot be started and others work.

        Raises:
            WorkerError: they cannot, and there is no other.
        """
        del self.hands[hand.number]
        stillborn = 0 if hand.served else hand.stillborn + 1
        if stillborn < STARTS:
            self._start(hand.number, stillborn)
            return
        if not self.hands:
            raise WorkerError(
                f"{stillborn} captioning processes in a row died before they were ready; the last"
                f" one {death.how}. Is there memory enough for the model?"
            )
        self._given_up.add(hand.number)
        left = len(self.hands)
        say(
            "caption", f"a captioning process cannot be started ({death.how}); going on with {left}"
        )

    def _start(self, number: int, stillborn: int = 0) -> None:
        hand = Hand(number, self.connect(number), stillborn)
        self.hands[number] = hand
        threading.Thread(target=self._listen, args=(hand,), daemon=True).start()

    def _listen(self, hand: Hand) -> None:
        try:
            while (frame := hand.connection.receive()) is not None:
                self.events.put(Event(hand, frame))
            if self.hands.get(hand.number) is hand:  # else it was ended
                self.events.put(Event(hand, Death(*hand.connection.autopsy())))
        except BaseException as error:  # noqa: BLE001  raised where the run waits
            self.events.put(Event(hand, error))

    def run(self, run: Run, units: Iterable[Unit]) -> Generator[Done, None, None]:
        """Caption units; they are done in their order.

        Raises:
            WorkerError: processes die again and again, and no picture is to blame.
            CaptionmillError: what a process met.
        """
        self.marker()
        dispatch = Dispatch(self, run, iter(units))
        thread = threading.Thread(target=dispatch.hold, daemon=True)
        thread.start()
        try:
            yield from dispatch.outcomes()
        finally:
            dispatch.stop()
            thread.join()
            if any(hand.tasks for hand in self.hands.values()):
                self.end()  # whatever they have is lost
