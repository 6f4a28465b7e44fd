"""A run's units among its workers: handed out, asked about and given back in the order of the plan.

Which pictures are copies follows from the order of the plan, so a worker's questions wait until all
earlier units have been asked about whole. A worker asks when it has read a unit, and captions another
meanwhile, so that no one waits for a model.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.caption import wire
from pipeline.caption.connection import Death, Event, Hand
from pipeline.caption.tasks import Done, Step, Task

if TYPE_CHECKING:
    from pipeline.caption.engine import Run
    from pipeline.caption.fleet import Fleet
    from pipeline.caption.plan import Unit

AHEAD = 2
"""Units that a worker has at a time: one it captions, and one it reads."""

LOOK = 10.0
"""Most seconds between two looks for workers that hang."""

PLACE = 60.0
"""Seconds that a worker which is being started may take while all others wait for what it is to do."""

UNDONE = 8
"""Units a worker, that may be handed out or wait for an earlier one."""


@dataclass(eq=False)
class _Job:
    """A unit that is not given back yet."""

    number: int
    """In the order of the plan."""
    task: Task
    asked: int = 0
    """Members that it was asked of whether they are copies; all of those before them were too."""
    question: tuple[Hand, dict[str, Any]] | None = None
    """That waits for an earlier unit's."""
    counted: tuple[int, int] = (0, 0)
    """Members, and of them failed, that the progress knows of."""
    done: wire.Frame | None = None

    @property
    def known(self) -> bool:
        """Whether later units' questions need not wait for it."""
        return self.asked >= len(self.task.unit.members)


class Dispatch:
    """One run's, on a thread of its own, so that writing does not hold it up."""

    def __init__(self, fleet: Fleet, run: Run, units: Iterator[Unit]) -> None:
        self.fleet, self.told, self.units = fleet, run, units
        self.archives = {name: opened.path for name, opened in run.archives.items()}
        self.jobs: dict[str, _Job] = {}
        """By unit, in the order of the plan."""
        self.waiting: list[_Job] = []
        """For a hand."""
        self._numbers = 0
        self._all_given = False
        self._outcomes: queue.SimpleQueue[tuple[_Job, wire.Frame] | BaseException | None] = (
            queue.SimpleQueue()
        )
        self._stopped = False
        self._look = 0.0
        """When to look for workers that hang."""
        self._moved = time.monotonic()
        """When it was last seen that not all workers wait for a unit that nobody has."""

    def outcomes(self) -> Iterator[Done]:
        """The captioned units as they come; for another thread than `hold`'s.

        Raises:
            BaseException: what ended it.
        """
        while (outcome := self._outcomes.get()) is not None:
            if isinstance(outcome, BaseException):
                raise outcome
            job, frame = outcome
            copies = {place: (unit, at) for place, unit, at in frame.head["copies"]}
            yield Done(job.task.unit, wire.rows_from_bytes(frame.body), copies)
            self.fleet.events.put(None)  # there is room for another

    def hold(self) -> None:
        """Until all units are done, or something ends it."""
        try:
            while not self._stopped:
                self._hand_out()
                if self._all_given and not self.jobs:
                    break
                event = self._next_event()
                if event is not None:
                    self._hear(event)
            self._outcomes.put(None)
        except BaseException as error:  # noqa: BLE001  raised where the run waits
            self._outcomes.put(error)

    def stop(self) -> None:
        """End it, early or not."""
        self._stopped = True
        self.fleet.events.put(None)

    def _next_event(self) -> Event | None:
        """Whatever comes; meanwhile, and when all that was said is heard, hung workers are ended."""
        if self.fleet.events.empty() and time.monotonic() >= self._look:
            self._end_hung()
            self._end_blocked()
        try:
            return self.fleet.events.get(timeout=max(0.0, self._look - time.monotonic()))
        except queue.Empty:
            return None

    def _end_hung(self) -> None:
        """End workers that have something to do, and have not said anything for too long."""
        now, most = time.monotonic(), self.fleet.hang_seconds
        late, self._look = now - self._look, now + min(most / 10, LOOK)
        if late > LOOK:
            # This process was busy or stopped itself, and knows nothing of the time between.
            for hand in self.fleet.hands.values():
                hand.heard = now
        waiting = {id(job.question[0]) for job in self.jobs.values() if job.question is not None}
        for hand in self.fleet.hands.values():
            if hand.tasks and not hand.hung and id(hand) not in waiting and now - hand.heard > most:
                hand.hung = True
                hand.connection.end()

    def _end_blocked(self) -> None:
        """Have a worker start anew, if all wait for a unit that a dead one had, and nobody takes that.

        Its place may be all there is: no other can be started, or a cluster has no room for one.
        """
        now, hands = time.monotonic(), [hand for hand in self.fleet.hands.values() if hand.ready]
        if not self.waiting or not hands or not all(self._is_blocked(hand) for hand in hands):
            self._moved = now
        elif len(hands) == len(self.fleet.hands) or now - self._moved > PLACE:
            hand = max(hands, key=lambda one: max(self.jobs[unit].number for unit in one.tasks))
            hand.spared, self._moved = True, now
            hand.connection.end()

    def _is_blocked(self, hand: Hand) -> bool:
        """Whether it can do nothing before its question is answered: units are done in order."""
        first = next(iter(hand.tasks), None)
        question = self.jobs[first].question if first is not None else None
        return question is not None and question[0] is hand and not hand.spared

    def _hand_out(self) -> None:
        """In order: only units that nobody waits for may be overtaken."""
        for job in [*self.waiting]:
            if self._give(job):
                self.waiting.remove(job)
            elif not job.known:
                return
        most = UNDONE * (self.fleet.wanted or 1)
        while len(self.jobs) + self._outcomes.qsize() < most:
            unit = next(self.units, None)
            if unit is None:
                self._all_given = True
                return
            job = _Job(self._numbers, self.told.attempts.load(unit.id).task(unit))
            self._numbers += 1
            self.jobs[unit.id] = job
            if not self._give(job):
                self.waiting.append(job)
                return

    def _give(self, job: _Job) -> bool:
        """Give a unit to the worker with the least to do, if one may have it."""
        able = [hand for hand in self.fleet.hands.values() if _takes(hand, job.task)]
        if not able:
            self.fleet.recruit()
            return False
        hand = min(able, key=lambda one: (len(one.tasks), one.number))
        unit, hand.served, hand.heard = job.task.unit, True, time.monotonic()
        hand.tasks[unit.id] = job.task
        head = {"archive": self.archives[unit.source], "task": wire.task_to_json(job.task)}
        hand.tell("caption", head)
        return True

    def _hear(self, event: Event) -> None:
        hand, what = event
        if self.fleet.hands.get(hand.number) is not hand:
            return
        hand.heard = time.monotonic()
        if not isinstance(what, wire.Frame):
            self._mourn(event)
        elif what.kind == "ready":
            self.fleet.hear(event)
        elif what.kind == "step":
            hand.step = Step(*what.head["step"])
        elif what.kind == "alive":
            pass  # it was heard
        elif what.kind == "find":
            self.jobs[what.head["unit"]].question = (hand, what.head)
            self._answer()
        elif what.kind == "progress":
            job, (members, failed) = self.jobs[what.head["unit"]], what.head["done"]
            job.counted = (job.counted[0] + members, job.counted[1] + failed)
            self.told.progress(members, failed)
        else:
            del hand.tasks[what.head["id"]]
            hand.step = None
            self.fleet.stages.add(what.head["stages"])
            self.jobs[what.head["id"]].done = what
            self._give_back()

    def _answer(self) -> None:
        """The questions whose turn it is."""
        for job in self.jobs.values():
            if job.question is not None:
                (hand, head), job.question = job.question, None
                found = self.told.copies(head["unit"], head["start"], head["digests"])
                hand.tell("copies", {"of": found})
                hand.heard = time.monotonic()
                job.asked = max(job.asked, head["start"] + len(head["digests"]))
            if not job.known:
                return

    def _give_back(self) -> None:
        """The units that are done and have no undone one before them."""
        for job in [*self.jobs.values()]:
            if job.done is None:
                return
            del self.jobs[job.task.unit.id]
            self._outcomes.put((job, job.done))

    def _mourn(self, event: Event) -> None:
        """A worker is gone: note what of, and let what it had be done again."""
        hand, what = event
        if isinstance(what, Death):
            if hand.hung:
                what = Death(f"did nothing for {self.fleet.hang_seconds:g} s", crashed=True)
            for task in hand.tasks.values():
                self._lose(self.jobs[task.unit.id], hand, what)
            hand.tasks.clear()
            self.waiting.sort(key=lambda job: job.number)
        self.fleet.hear(event)

    def _lose(self, job: _Job, hand: Hand, death: Death) -> None:
        unit, step = job.task.unit, hand.step if job.task.careful else None
        if not hand.spared:
            attempts = self.told.attempts.load(unit.id)
            attempts = attempts.after(unit, step, death.how, crashed=death.crashed, hung=hand.hung)
            self.told.attempts.save(attempts)
            job.task = attempts.task(unit)
        job.question = None
        if any(job.counted):
            self.told.progress(-job.counted[0], -job.counted[1])
        job.counted = (0, 0)
        self.waiting.append(job)


def _takes(hand: Hand, task: Task) -> bool:
    """A unit that is tried carefully has its worker for itself."""
    careful = task.careful or any(other.careful for other in hand.tasks.values())
    return hand.ready and len(hand.tasks) < (1 if careful else AHEAD)
