"""Reading ahead of the model: one stretch of pictures while the one before it is captioned.

A unit is read as a whole before it is captioned, if memory allows, so that which of its pictures are
copies is asked at once and early: others wait for it. Nothing is read twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

from pipeline.caption.copies import Place
from pipeline.caption.members import Archive
from pipeline.caption.reader import Picture, Reader
from pipeline.caption.tasks import Step, Task

HELD = 128 << 20
"""Bytes of pictures in a stretch, about; most units are one. Two stretches are held."""

STRETCHES = 2
"""That are held: one is captioned, and one is read."""

_OWN = 2048
"""Bytes that a picture takes beside its pixels, about."""

DISTANT_THREADS = 16
"""Threads that read and decode, of archives whose reads wait for a network."""

Tasks = Callable[[bool], Task | None]
"""The next task. None if there is none now; if told to wait, if there will be none."""


class Stretch(NamedTuple):
    """Some of a unit's pictures, as they follow each other."""

    task: Task
    start: int
    """Place of the first one in its unit."""
    pictures: list[Picture]
    sources: list[Place | None]
    """Where a picture's caption is copied from; None for one that is to be captioned."""

    @property
    def is_last(self) -> bool:
        """Whether its unit ends with it."""
        return self.start + len(self.pictures) == len(self.task.unit.members)


class Ahead:
    """Stretches of units in order, read and decoded by threads. To be closed."""

    def __init__(
        self,
        tasks: Tasks,
        reader: Reader,
        archive: Callable[[str], Archive],
        *,
        copies: Callable[[str, int, Sequence[str | None]], list[Place | None]],
        announce: Callable[[Step], object],
        alive: Callable[[], object],
        threads: int,
    ) -> None:
        """See `UnitCaptioner`; `copies` may be asked from another thread."""
        self._tasks, self._reader, self._archive = tasks, reader, archive
        self._copies, self._announce, self._alive = copies, announce, alive
        self._held: deque[Callable[[], Stretch]] = deque()
        self._starts: Iterator[Callable[[], Stretch]] = iter(())
        self._quick = ThreadPoolExecutor(threads)
        self._distant = ThreadPoolExecutor(DISTANT_THREADS)
        self._sequential = ThreadPoolExecutor(1)
        self._asker = ThreadPoolExecutor(1)
        side = reader.transform.size
        self._most = max(1, HELD // (3 * side * side + _OWN))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._quick, self._distant, self._sequential):
            pool.shutdown(cancel_futures=True)
        # It may wait for an answer that nobody gives any more.
        self._asker.shutdown(wait=False, cancel_futures=True)

    def stretches(self) -> Iterator[Stretch]:
        """All of them; one is let go when the next is asked for."""
        while self._begin(wait=True) or self._held:
            yield self._held[0]()
            self._held.popleft()

    def fetch(self) -> None:
        """Start to read what is there to be read now, as far as there is room."""
        while len(self._held) < STRETCHES and self._begin(wait=False):
            pass

    def _begin(self, wait: bool) -> bool:
        """Start to read one more stretch; waits for a task if there is nothing at all to do."""
        if len(self._held) >= STRETCHES:
            return False
        begun = next(self._starts, None)
        if begun is None:
            task = self._tasks(wait and not self._held)
            if task is None:
                return False
            self._starts = self._stretches_of(task)
            begun = next(self._starts)
        self._held.append(begun)
        return True

    def _stretches_of(self, task: Task) -> Iterator[Callable[[], Stretch]]:
        for start in range(0, len(task.unit.members), self._most):
            if task.careful:
                yield lambda start=start: self._read_one_by_one(task, start)  # type: ignore[misc]
            else:
                yield self._read_together(task, start)

    def _read_together(self, task: Task, start: int) -> Callable[[], Stretch]:
        archive = self._archive(task.unit.source)
        near = self._distant if archive.distant else self._quick
        pool = self._sequential if archive.sequential else near
        reading = [
            pool.submit(self._reader.load, archive, member, task.killer(member))
            for member in task.unit.members[start : start + self._most]
        ]
        return self._asker.submit(self._gather, task, start, reading).result

    def _gather(self, task: Task, start: int, reading: list[Future[Picture]]) -> Stretch:
        pictures = []
        for future in reading:
            pictures.append(future.result())
            self._alive()
        return self._asked(task, start, pictures)

    def _read_one_by_one(self, task: Task, start: int) -> Stretch:
        """By the caller's thread, so that no step is taken beside another."""
        archive, pictures = self._archive(task.unit.source), []
        members = task.unit.members[start : start + self._most]
        for place, member in enumerate(members, start):
            self._announce(Step("read", place))

            def about_to_decode(picture: Picture, place: int = place) -> None:
                self._announce(Step("decode", place, picture.size, picture.sha256))

            pictures.append(
                self._reader.load(archive, member, task.killer(member), about_to_decode)
            )
        return self._asked(task, start, pictures)

    def _asked(self, task: Task, start: int, pictures: list[Picture]) -> Stretch:
        digests = [picture.sha256 for picture in pictures]
        return Stretch(task, start, pictures, self._copies(task.unit.id, start, digests))
