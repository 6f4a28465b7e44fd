"""Units among workers: whoever is quicker, questions and rows come in the order of the plan."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import dispatch
from pipeline.caption.attempts import AttemptsDirectory
from pipeline.caption.engine import Opened, Run
from pipeline.caption.fleet import Fleet
from pipeline.caption.folder import Folder
from pipeline.caption.marker import Marker, Model
from pipeline.caption.members import Member
from pipeline.caption.plan import Unit
from pipeline.caption.tasks import Done
from pipeline.caption.wire import Frame, rows_to_bytes
from pipeline.errors import WorkerError

MARKER = Marker(
    model=Model(ref="m/1", name="m", version="1", fingerprint="f"), recipe="r", settings={}
)
READY = {"marker": MARKER.model_dump(mode="json"), "room": 2, "threads": 3}
NOTHING = rows_to_bytes([])


class Scripted:
    """A worker whose part the test plays."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.said: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self.heard: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
        self._later: deque[tuple[str, dict[str, Any]]] = deque()
        self.ended = False
        self.listens = threading.Event()
        self.listens.set()
        self.how = ("was ended by SIGSEGV", True)

    def send(self, kind: str, head: dict[str, Any]) -> None:
        self.listens.wait()
        self.heard.put((kind, head))

    def receive(self) -> Frame | None:
        return self.said.get()

    def end(self) -> None:
        self.ended = True
        self.listens.set()
        self.said.put(None)

    def autopsy(self) -> tuple[str, bool]:
        return self.how

    def say(self, kind: str, body: bytes = b"", **head: Any) -> None:
        self.said.put(Frame(kind, head, body))

    def ready(self) -> None:
        self.say("ready", **READY)

    def dies(self) -> None:
        self.said.put(None)

    def hears(self) -> tuple[str, dict[str, Any]]:
        return self.heard.get(timeout=30)

    def gets(self) -> str:
        """Units may come before answers that are waited for, and the other way round."""
        kind, head = self._later.popleft() if self._later else self.hears()
        assert kind == "caption"
        unit: str = head["task"]["id"]
        return unit

    def asks(self, unit: str, start: int = 0, members: int = 2) -> None:
        self.say("find", unit=unit, start=start, digests=[unit] * members)

    def answered(self) -> bool:
        while (heard := self.hears())[0] != "copies":
            self._later.append(heard)
        return True

    def captions(self, unit: str) -> None:
        self.asks(unit)
        assert self.answered()
        self.done(unit)

    def done(self, unit: str) -> None:
        self.say("done", NOTHING, id=unit, stages={"seconds": {"search": 1.0}}, copies=[])


class Theatre:
    """A fleet of scripted workers, and what the run was told."""

    def __init__(self, tmp_path: Path) -> None:
        self.started: queue.SimpleQueue[Scripted] = queue.SimpleQueue()
        self.asked: list[tuple[str, int]] = []
        self.progress: list[tuple[int, int]] = []
        self.attempts = AttemptsDirectory(tmp_path)
        tmp_path.mkdir(exist_ok=True)
        archives = {"photos": Opened(str(tmp_path), Folder(tmp_path))}
        told = lambda members, failed: self.progress.append((members, failed))  # noqa: E731
        self.told = Run(archives, self.find, self.attempts, told)

    def find(self, unit: str, start: int, digests: Sequence[str | None]) -> list[None]:
        self.asked.append((unit, start))
        return [None] * len(digests)

    def connect(self, number: int) -> Scripted:
        worker = Scripted(number)
        self.started.put(worker)
        return worker

    def next(self) -> Scripted:
        return self.started.get(timeout=30)


@pytest.fixture
def theatre(tmp_path: Path) -> Theatre:
    return Theatre(tmp_path / "attempts")


def units(count: int, members: int = 2) -> Iterator[Unit]:
    for number in range(count):
        yield Unit(f"u{number}", "photos", [Member(f"{n}.jpg") for n in range(members)])


def begin(theatre: Theatre, fleet: Fleet, count: int) -> tuple[Scripted, Iterator[Done]]:
    """The first worker, ready, and the run that it works for."""
    first = theatre.next()
    first.ready()
    assert fleet.marker() == MARKER
    return first, fleet.run(theatre.told, units(count))


def in_background(out: Iterator[Done]) -> Callable[[], str]:
    """Takes what is done one after the other; a call gives the next one's unit."""
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def take() -> None:
        try:
            for done in out:
                found.put(done.unit.id)
            found.put("end")
        except BaseException as error:  # noqa: BLE001  raised in the test
            found.put(error)

    threading.Thread(target=take, daemon=True).start()

    def following() -> str:
        outcome = found.get(timeout=30)
        if isinstance(outcome, BaseException):
            raise outcome
        return str(outcome)

    return following


def two_at_work(
    theatre: Theatre, fleet: Fleet, count: int
) -> tuple[Scripted, Scripted, Callable[[], str]]:
    """Two workers, that have u0 and u1, and u2 and u3; and what `in_background` gives."""
    one, out = begin(theatre, fleet, count)
    following = in_background(out)
    assert [one.gets(), one.gets()] == ["u0", "u1"]
    two = theatre.next()
    two.ready()
    assert [two.gets(), two.gets()] == ["u2", "u3"]
    return one, two, following


def test_questions_and_rows_come_in_the_order_of_the_plan(theatre: Theatre) -> None:
    with Fleet("scripted", theatre.connect, 2) as fleet:
        one, two, following = two_at_work(theatre, fleet, 4)
        two.asks("u2")
        one.asks("u0", 0, 1)
        assert one.answered()
        assert theatre.asked == [("u0", 0)]
        one.asks("u0", 1, 1)
        assert one.answered()
        one.asks("u1")
        assert one.answered() and two.answered()
        two.done("u2")
        two.asks("u3")
        assert two.answered()
        two.done("u3")
        one.done("u0")
        assert following() == "u0"
        one.done("u1")
        assert [following() for _ in range(4)] == ["u1", "u2", "u3", "end"]
        assert theatre.asked == [("u0", 0), ("u0", 1), ("u1", 0), ("u2", 0), ("u3", 0)]
        assert fleet.threads == {"read": 6, "decode": 6, "encode": 2, "search": 2}
        assert fleet.stages.seconds == {"search": 4.0}
    assert one.ended and two.ended


def test_a_death_costs_the_dead_worker_s_units_alone(theatre: Theatre) -> None:
    with Fleet("scripted", theatre.connect, 2) as fleet:
        one, two, following = two_at_work(theatre, fleet, 5)
        for unit in ("u0", "u1"):
            one.asks(unit)
            assert one.answered()
        one.say("progress", unit="u0", done=[1, 1])
        one.dies()
        three = theatre.next()
        assert three.number == one.number
        # Nobody waits for what was asked about already.
        two.asks("u2")
        assert two.answered()
        two.done("u2")
        assert two.gets() == "u4"
        three.ready()
        kind, head = three.hears()
        assert (kind, head["task"]["id"], head["task"]["careful"]) == ("caption", "u0", True)
        assert theatre.progress == [(1, 1), (-1, -1)]
        three.captions("u0")
        assert following() == "u0"
        assert three.gets() == "u1"
        three.captions("u1")
        for unit in ("u3", "u4"):
            two.captions(unit)
        assert [following() for _ in range(5)] == ["u1", "u2", "u3", "u4", "end"]
        assert theatre.attempts.load("u2").deaths == 0
        assert theatre.attempts.load("u1").deaths == 1


def test_what_was_not_asked_about_yet_is_waited_for(theatre: Theatre) -> None:
    with Fleet("scripted", theatre.connect, 2) as fleet:
        one, two, following = two_at_work(theatre, fleet, 6)
        two.asks("u2")
        one.dies()
        three = theatre.next()
        three.ready()
        for unit in ("u0", "u1"):
            assert three.gets() == unit
            three.captions(unit)
        assert two.answered()
        two.done("u2")
        assert [following() for _ in range(3)] == ["u0", "u1", "u2"]
        assert theatre.asked == [("u0", 0), ("u1", 0), ("u2", 0)]


def test_no_more_is_done_ahead_than_is_bounded(theatre: Theatre) -> None:
    gate = threading.Semaphore(0)

    def slowly(out: Iterator[Done]) -> Iterator[Done]:
        for done in out:
            yield done
            gate.acquire()

    with Fleet("scripted", theatre.connect, 1) as fleet:
        one, out = begin(theatre, fleet, dispatch.UNDONE + 2)
        following = in_background(slowly(out))
        for _ in range(dispatch.UNDONE + 1):
            one.captions(one.gets())
        assert following() == "u0"
        with pytest.raises(queue.Empty):
            one.heard.get(timeout=0.2)
        gate.release()
        one.captions(one.gets())
        gate.release(dispatch.UNDONE + 1)
        assert [following() for _ in range(dispatch.UNDONE + 2)][-1] == "end"


def test_a_run_that_is_left_early_ends_its_workers(theatre: Theatre) -> None:
    with Fleet("scripted", theatre.connect, 1) as fleet:
        one, out = begin(theatre, fleet, 100)
        threading.Thread(target=lambda: one.captions(one.gets())).start()
        assert next(out).unit.id == "u0"
        out.close()  # type: ignore[attr-defined]
        assert one.ended


def test_a_worker_that_cannot_be_started_is_done_without_if_another_works(
    theatre: Theatre, capfd: pytest.CaptureFixture[str]
) -> None:
    with Fleet("scripted", theatre.connect, 2) as fleet:
        one, out = begin(theatre, fleet, 3)
        following = in_background(out)
        for _ in range(3):
            theatre.next().dies()
        for _ in range(3):
            one.captions(one.gets())
        assert [following() for _ in range(4)] == ["u0", "u1", "u2", "end"]
    said = "a captioning process cannot be started (was ended by SIGSEGV); going on with 1"
    assert said in capfd.readouterr().err


def test_workers_that_cannot_be_started_end_the_run(theatre: Theatre) -> None:
    with Fleet("scripted", theatre.connect, 2) as fleet:
        one, out = begin(theatre, fleet, 3)
        following = in_background(out)
        assert one.gets() == "u0"
        for _ in range(3):
            theatre.next().dies()
        one.dies()
        for _ in range(3):
            theatre.next().dies()
        with pytest.raises(WorkerError, match="in a row died before they were ready"):
            following()


def test_a_worker_that_hangs_is_ended_and_its_picture_left_out(theatre: Theatre) -> None:
    with Fleet("scripted", theatre.connect, 1, hang_seconds=1.0) as fleet:
        one, out = begin(theatre, fleet, 2)
        following = in_background(out)
        assert [one.gets(), one.gets()] == ["u0", "u1"]
        for deaths in range(2):
            again = theatre.next()
            assert theatre.attempts.load("u0").deaths == deaths + 1
            again.ready()
            assert again.gets() == "u0"
            again.say("step", step=["decode", 1, 5, "digest"])
        last = theatre.next()
        last.ready()
        _, head = last.hears()
        assert head["task"]["killers"] == [["1.jpg", 0, "decoder_hang", 5, "digest"]]
        last.captions("u0")
        last.captions(last.gets())
        assert [following() for _ in range(3)] == ["u0", "u1", "end"]


def test_a_worker_that_waits_for_an_answer_does_not_hang(theatre: Theatre) -> None:
    with Fleet("scripted", theatre.connect, 2, hang_seconds=2.0) as fleet:
        one, two, following = two_at_work(theatre, fleet, 4)
        two.asks("u2")
        for _ in range(25):
            time.sleep(0.1)
            one.say("alive")
        assert not two.ended
        one.captions("u0")
        one.captions("u1")
        assert two.answered()
        two.done("u2")
        two.captions("u3")
        assert [following() for _ in range(5)][-1] == "end"


def test_a_worker_that_does_not_listen_does_not_hold_up_the_others(theatre: Theatre) -> None:
    with Fleet("scripted", theatre.connect, 2, hang_seconds=1.0) as fleet:
        one, two, following = two_at_work(theatre, fleet, 4)
        two.listens.clear()
        two.asks("u2")
        one.captions("u0")
        one.captions("u1")
        assert [following(), following()] == ["u0", "u1"]
        three = theatre.next()
        assert two.ended
        three.ready()
        three.captions(three.gets())
        three.captions(three.gets())
        assert [following() for _ in range(3)] == ["u2", "u3", "end"]


@pytest.mark.parametrize("starts", [False, True])
def test_a_worker_starts_anew_if_it_waits_for_a_unit_that_nobody_can_take(
    theatre: Theatre, monkeypatch: pytest.MonkeyPatch, starts: bool
) -> None:
    monkeypatch.setattr(dispatch, "LOOK", 0.01)
    monkeypatch.setattr(dispatch, "PLACE", 0.0 if starts else 60.0)
    with Fleet("test", theatre.connect, 2) as fleet:
        first, out = begin(theatre, fleet, 3)
        following = in_background(out)
        assert [first.gets(), first.gets()] == ["u0", "u1"]
        second = theatre.next()
        second.ready()
        assert second.gets() == "u2"
        second.asks("u2")
        first.dies()  # its units have not been asked about
        pending = theatre.next()
        if not starts:
            for _ in range(2):  # the next ones die too, until it is given up
                pending.dies()
                pending = theatre.next()
            pending.dies()
        third = theatre.next()
        assert (second.ended, third.number) == (True, second.number)
        third.ready()
        for unit in ("u0", "u1", "u2"):
            assert third.gets() == unit
            third.captions(unit)
        assert [following() for _ in range(4)] == ["u0", "u1", "u2", "end"]
        # The ended one is not held against what it had.
        assert theatre.attempts.load("u0").deaths == 1
        assert theatre.attempts.load("u2").deaths == 0
