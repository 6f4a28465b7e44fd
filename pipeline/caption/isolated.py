"""The engine that captions in a process of its own, so that no picture can end the run.

A decoder that crashes ends that process alone. The units it had are tried again, each by
itself and a picture at a time, until one picture is to blame or none: see `attempts.py`. The
process writes nothing; what it finished is committed by the run, so that either may be killed.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from pipeline.caption import wire
from pipeline.caption.marker import Marker
from pipeline.caption.process import Process, died_at_start
from pipeline.caption.stages import Stages
from pipeline.caption.unit import Done, Step, Task, threads
from pipeline.errors import WorkerError

if TYPE_CHECKING:
    from pipeline.caption.engine import Run
    from pipeline.caption.loader import Loader
    from pipeline.caption.plan import Unit
    from pipeline.config import CaptionConfig

AHEAD = 2
"""Units that a process has at a time: one it captions, and one it reads."""

STARTS = 3
"""Deaths in a row of processes that did not come to be ready."""


class Isolated:
    """One captioning process, started again when it dies."""

    name = "local"

    def __init__(self, config: CaptionConfig, loader: Loader) -> None:
        self.config, self.loader = config, loader
        self.stages = Stages()
        self._process: Process | None = None
        self._marker: Marker | None = None
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def threads(self) -> Mapping[str, int]:
        """Threads a stage."""
        return dict.fromkeys(("read", "decode"), threads())

    def end(self) -> None:
        """End the process, if there is one; no other is started."""
        self._ended = True
        if self._process is not None:
            self._process.end()
            self._process = None

    def marker(self) -> Marker:
        """What rows are made with; waits until a process has loaded the model.

        Raises:
            WorkerError: processes die before they have.
            CaptionmillError: the model cannot be loaded.
        """
        if self._marker is None:
            self.ready()
        assert self._marker is not None
        return self._marker

    def ready(self) -> Process:
        """A process that has loaded the model: the one at hand, or another."""
        how = ""
        for _ in range(STARTS):
            if self._ended:
                break
            if self._process is None:
                self._process = Process(self.config, self.loader)
            frame = self._process.receive()
            if frame is not None:
                marker = Marker.model_validate(frame.head["marker"])
                if self._marker not in (None, marker):
                    raise WorkerError(
                        "the model or its settings changed during the run:"
                        " run the same command again"
                    )
                self._marker = marker
                return self._process
            how, _ = self._process.autopsy()
            self._process = None
        raise died_at_start(STARTS, how)

    def replace(self) -> Process:
        """Another process for one that died."""
        self._process = None
        return self.ready()

    def run(self, run: Run, units: Iterable[Unit]) -> Generator[Done, None, None]:
        """Caption units in order.

        Raises:
            WorkerError: processes die again and again, and no picture is to blame.
            CaptionmillError: what a process met.
        """
        self.marker()
        assert self._process is not None
        dialogue = _Dialogue(self, self._process, run, iter(units))
        thread = threading.Thread(target=dialogue.hold, daemon=True)
        thread.start()
        try:
            while (outcome := dialogue.outcomes.get()) is not None:
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
        finally:
            dialogue.stop()
            thread.join()


class _Dialogue:
    """A run and its process, on a thread of its own, so that writing does not hold it up."""

    def __init__(self, engine: Isolated, process: Process, run: Run, units: Iterator[Unit]) -> None:
        self.engine, self.process, self.told, self.units = engine, process, run, units
        self.outcomes: queue.Queue[Done | BaseException | None] = queue.Queue(AHEAD)
        self.archives = {name: opened.path for name, opened in run.archives.items()}
        self.waiting: deque[Task] = deque()
        self.at_work: dict[str, Task] = {}
        self.step: Step | None = None
        self.counted = (0, 0)
        """Members, and of them failed, of the unit that is being captioned."""
        self._stopped = False

    def hold(self) -> None:
        """Until all units are done, or something ends it."""
        try:
            while not self._stopped:
                self._hand_out()
                if not self.at_work:
                    break
                frame = self.process.receive()
                if frame is not None:
                    self._hear(frame)
                elif not self._stopped:
                    self._mourn()
            self._put(None)
        except BaseException as error:  # noqa: BLE001  raised where the run waits
            self._put(error)

    def stop(self) -> None:
        """End it early: the process is killed, and whatever it has is lost."""
        self._stopped = True
        if self.at_work:
            self.engine.end()

    def _put(self, outcome: Done | BaseException | None) -> None:
        while not self._stopped:
            with contextlib.suppress(queue.Full):
                return self.outcomes.put(outcome, timeout=0.1)

    def _hand_out(self) -> None:
        while (task := self._next()) is not None:
            careful = task.careful or any(other.careful for other in self.at_work.values())
            if len(self.at_work) >= (1 if careful else AHEAD):
                self.waiting.appendleft(task)
                return
            self.at_work[task.unit.id] = task
            path = self.archives[task.unit.source]
            self.process.send("caption", {"archive": path, "task": wire.task_to_json(task)})

    def _next(self) -> Task | None:
        if self.waiting:
            return self.waiting.popleft()
        unit = next(self.units, None)
        return self.told.attempts.load(unit.id).task(unit) if unit is not None else None

    def _hear(self, frame: wire.Frame) -> None:
        head: dict[str, Any] = frame.head
        if frame.kind == "find":
            found = self.told.copies(head["unit"], head["start"], head["digests"])
            self.process.send("copies", {"of": found})
        elif frame.kind == "step":
            self.step = Step(*head["step"])
        elif frame.kind == "progress":
            members, failed = head["done"]
            self.counted = (self.counted[0] + members, self.counted[1] + failed)
            self.told.progress(members, failed)
        else:
            task = self.at_work.pop(head["id"])
            self.step, self.counted = None, (0, 0)
            self.engine.stages.add(head["stages"])
            copies = {place: (unit, at) for place, unit, at in head["copies"]}
            self._put(Done(task.unit, wire.rows_from_bytes(frame.body), copies))

    def _mourn(self) -> None:
        """The process died: note what of, and give what it had to another one, in order."""
        how, crashed = self.process.autopsy()
        again = []
        for task in self.at_work.values():
            unit = task.unit
            step = self.step if task.careful else None
            attempts = self.told.attempts.load(unit.id).after(unit, step, how, crashed=crashed)
            self.told.attempts.save(attempts)
            again.append(attempts.task(unit))
        self.waiting.extendleft(reversed(again))
        self.at_work.clear()
        self.told.progress(-self.counted[0], -self.counted[1])
        self.step, self.counted = None, (0, 0)
        self.process = self.engine.replace()
