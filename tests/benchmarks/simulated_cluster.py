"""A cluster that is not there, as an engine: workers that die, nodes that vanish, stragglers.

Events in simulated seconds, from a seed; nothing sleeps. What the engine is told (units, copies,
attempts) and what it gives back is a run's own. Units come back as they are done, in any order
but that a copy comes after what it is copied from.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

from pipeline.caption.copies import Place
from pipeline.caption.engine import Run
from pipeline.caption.marker import Marker, Model
from pipeline.caption.members import Member
from pipeline.caption.plan import Unit
from pipeline.caption.schema import Row
from pipeline.caption.stages import Stages
from pipeline.caption.tasks import Done, Step, Task

MODEL = Model(ref="simulated/1", name="simulated", version="1", fingerprint="0" * 16)
MARKER = Marker(model=MODEL, recipe="0123456789abcdef", settings={})
BYTES = 1000
"""Of a simulated picture."""


@dataclass(frozen=True)
class Weather:
    """What goes wrong, and how long things take, in simulated seconds."""

    nodes: int = 16
    workers: int = 8
    """A node."""
    seconds: float = 10.0
    """A unit."""
    death: float = 0.01
    """Share of units at which a worker dies."""
    node_loss: float = 1000.0
    """Between two losses of a node."""
    straggler: float = 0.01
    """Share of units that take 10 to 100 times as long."""
    restart: float = 60.0
    """Until a worker or a node is back."""


def sha256_of(name: str) -> str:
    """One picture in fifty has the bytes of the ninth before it."""
    number = _number(name)
    return hashlib.sha256(b"%d" % (number - 9 if number % 50 == 49 else number)).hexdigest()


def caption_of(name: str) -> str:
    """A function of the bytes alone, as a captioner is."""
    return f"a picture of {sha256_of(name)[:12]}"


def is_deadly(name: str) -> bool:
    """Whether decoding it ends the process: one picture in 20,000, and the first such one early."""
    return _number(name) % 20_000 == 777


def _number(name: str) -> int:
    return int(name.rpartition("/")[2].removesuffix(".jpg"))


class _Event(NamedTuple):
    """What becomes of a worker's unit, or (without a task) that the worker is back."""

    when: float
    number: int
    worker: int
    life: int
    task: Task | None = None
    dies: bool = False
    step: Step | None = None


class Cluster:
    """`engine.Engine`, simulated."""

    name = "simulated cluster"

    def __init__(self, weather: Weather, seed: int) -> None:
        self.weather, self.random = weather, random.Random(seed)
        self.stages, self.threads = Stages(), dict[str, int]()
        self.counts: Counter[str] = Counter()
        self.now = 0.0
        workers = weather.nodes * weather.workers
        self._free = deque(range(workers))
        self._lives = [0] * workers
        self._at_work: dict[int, Task] = {}
        self._events: list[_Event] = []
        self._again: deque[Task] = deque()
        self._open: set[str] = set()
        """Units that were handed out and not given back."""
        self._copies: dict[str, dict[int, Place]] = {}
        self._held: dict[str, Done] = {}
        """Done, and copied from a unit that is not."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def marker(self) -> Marker:
        """What rows are made with."""
        return MARKER

    def run(self, run: Run, units: Iterable[Unit]) -> Generator[Done, None, None]:
        """Caption units by whoever is free."""
        rest, loss = iter(units), self._soon(self.weather.node_loss)
        while True:
            self._hand_out(run, rest)
            if not self._at_work and not self._again:
                assert not self._held, "a copy that waits for nothing"
                return
            event = heapq.heappop(self._events)
            self.now = event.when
            if self.now > loss:
                self._lose_node(run)
                loss = self.now + self._soon(self.weather.node_loss)
            if event.life != self._lives[event.worker]:
                continue  # its node was lost
            if event.task is None:
                self._free.append(event.worker)
            elif event.dies:
                self._lose(run, event.worker, event.step, crashed=event.step is not None)
            else:
                del self._at_work[event.worker]
                self._free.append(event.worker)
                done = _done(event.task, self._copies.pop(event.task.unit.id))
                run.progress(len(done.rows), sum(row.status == "failed" for row in done.rows))
                self._held[done.unit.id] = done
                yield from self._given_back()

    def _hand_out(self, run: Run, rest: Iterator[Unit]) -> None:
        while self._free:
            if self._again:
                task = self._again.popleft()
            elif (unit := next(rest, None)) is not None:
                task = run.attempts.load(unit.id).task(unit)
                found = run.copies(unit.id, 0, [sha256_of(m.name) for m in unit.members])
                self._copies[unit.id] = {n: of for n, of in enumerate(found) if of is not None}
                self._open.add(unit.id)
            else:
                return
            self._start(self._free.popleft(), task)

    def _start(self, worker: int, task: Task) -> None:
        seconds = self._soon(self.weather.seconds)
        if self.random.random() < self.weather.straggler:
            self.counts["stragglers"] += 1
            seconds *= self.random.uniform(10, 100)
        place = next(
            (
                place
                for place, member in enumerate(task.unit.members)
                if is_deadly(member.name) and (member.name, member.occurrence) not in task.killers
            ),
            None,
        )
        step = None
        if place is not None and task.careful:
            step = Step("decode", place, BYTES, sha256_of(task.unit.members[place].name))
        dies = place is not None or self.random.random() < self.weather.death
        self._at_work[worker] = task
        self._push(seconds, worker, task, dies, step)

    def _push(self, seconds: float, worker: int, *more: object) -> None:
        self.counts["events"] += 1
        event = (self.now + seconds, self.counts["events"], worker, self._lives[worker], *more)
        heapq.heappush(self._events, _Event(*event))  # type: ignore[arg-type]

    def _lose_node(self, run: Run) -> None:
        self.counts["nodes lost"] += 1
        node = self.random.randrange(self.weather.nodes)
        for worker in range(node * self.weather.workers, (node + 1) * self.weather.workers):
            if worker in self._at_work:
                self._lose(run, worker, None, crashed=False)

    def _lose(self, run: Run, worker: int, step: Step | None, *, crashed: bool) -> None:
        """A worker died: what it had is tried again by another."""
        self.counts["workers lost"] += 1
        task = self._at_work.pop(worker)
        attempts = run.attempts.load(task.unit.id)
        attempts = attempts.after(task.unit, step, "was simulated", crashed=crashed)
        run.attempts.save(attempts)
        self._again.append(attempts.task(task.unit))
        self._lives[worker] += 1
        self._push(self.weather.restart, worker)

    def _given_back(self) -> Iterator[Done]:
        while True:
            ready = [
                done
                for done in self._held.values()
                if not ({unit for unit, _ in done.copies.values()} - {done.unit.id}) & self._open
            ]
            if not ready:
                self.counts["most held"] = max(self.counts["most held"], len(self._held))
                return
            for done in ready:
                yield self._held.pop(done.unit.id)
                self._open.discard(done.unit.id)

    def _soon(self, mean: float) -> float:
        return self.random.expovariate(1 / mean)


def _done(task: Task, copies: dict[int, Place]) -> Done:
    rows = [
        _row(task, member, is_copy=place in copies)
        for place, member in enumerate(task.unit.members)
    ]
    return Done(task.unit, rows, copies)


def _row(task: Task, member: Member, *, is_copy: bool) -> Row:
    killer = task.killers.get((member.name, member.occurrence))
    caption = None if killer or is_copy else caption_of(member.name)
    return Row(
        source=task.unit.source,
        member=member.name,
        occurrence=member.occurrence,
        sha256=sha256_of(member.name),
        bytes=BYTES,
        width=640,
        height=480,
        caption=caption,
        score=None if caption is None else -0.5,
        candidates=None if caption is None else [{"caption": caption, "score": -0.5}],
        status="failed" if killer else "skipped" if is_copy else "captioned",
        error_code=killer.code if killer else None,
        error="it ended its process" if killer else None,
        model_name=MODEL.name,
        model_version=MODEL.version,
        recipe=MARKER.recipe,
        meta=None,
    )
