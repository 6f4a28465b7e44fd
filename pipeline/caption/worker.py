"""A captioning process: `python -m pipeline.caption.worker`, started by `process.py`.

It talks through standard input and output, writes no file, and ends when its input does:
whoever started it holds the other end, and the kernel closes it however that process ends.
"""

from __future__ import annotations

import os
import queue
import resource
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import IO, Any

from pipeline.caption import wire
from pipeline.caption.ahead import STRETCHES
from pipeline.caption.archives import Reading, open_archive
from pipeline.caption.copies import Place
from pipeline.caption.loader import Loader
from pipeline.caption.members import Archive
from pipeline.caption.recipe import describe
from pipeline.caption.room import readers, room
from pipeline.caption.tasks import Step, Task
from pipeline.caption.timeline import now, process_began
from pipeline.caption.unit import UnitCaptioner
from pipeline.config import CaptionConfig
from pipeline.remote import location

ALIVE = 1.0
"""Seconds between two words that a picture was read."""


class Worker:
    """One captioner, and the run it works for."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._sending = threading.Lock()
        self._said = 0.0
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[list[Place | None]] = queue.SimpleQueue()
        self._paths: dict[str, str] = {}
        self._opened: OrderedDict[str, Archive] = OrderedDict()
        self._reading = Reading()

    def work(self) -> None:
        """Load the captioner, say so, and caption until the other side goes."""
        start = wire.receive(self._incoming)
        if start is None:
            return
        config = CaptionConfig.model_validate(start.head["config"])
        self._reading = Reading.of(config)
        loader = Loader.model_validate(start.head["loader"])
        loader.prepare()
        imported = now()
        captioner = loader.load(start.head["number"])
        marker = describe(config, captioner)
        loaded = now()
        here = 1 if loader.pinned else room(marker.settings["device"], marker.settings["threads"])
        threads = readers(here if config.workers == "auto" else config.workers)
        ready = {"marker": marker.model_dump(mode="json"), "room": here, "threads": threads}
        self._send("ready", ready)
        threading.Thread(target=self._listen, daemon=True).start()
        units = UnitCaptioner(
            config,
            captioner,
            marker,
            self._archive,
            copies=self._ask,
            progress=self._progress,
            announce=self._announce,
            alive=self._alive,
            threads=threads,
        )
        units.stages.span("imports", process_began(), imported)
        units.stages.span("load", imported, loaded)
        for done in units.run(self._next_task):
            head = {"id": done.unit.id, "stages": units.stages.take()}
            with units.stages.busy("send"):
                copies = [[place, *source] for place, source in done.copies.items()]
                self._send("done", head | {"copies": copies}, wire.rows_to_bytes(done.rows))

    def fail(self, error: BaseException) -> None:
        """Say that it ends, and why."""
        self._send("error", wire.error_to_json(error))

    def _listen(self) -> None:
        while (frame := wire.receive(self._incoming)) is not None:
            if frame.kind == "copies":
                self._answers.put([tuple(found) if found else None for found in frame.head["of"]])
            else:
                task = wire.task_from_json(frame.head["task"])
                self._paths[task.unit.source] = frame.head["archive"]
                self._tasks.put(task)
        # Whatever this process is in the middle of, nobody waits for it any more.
        os._exit(0)

    def _next_task(self, wait: bool) -> Task | None:
        try:
            return self._tasks.get(wait)
        except queue.Empty:
            return None

    def _archive(self, source: str) -> Archive:
        if source not in self._opened:
            self._opened[source] = open_archive(
                location(self._paths[source]), reading=self._reading
            )
        self._opened.move_to_end(source)
        # No picture that is read ahead is of an archive that was left longer ago.
        while len(self._opened) > STRETCHES:
            self._opened.popitem(last=False)[1].close()
        return self._opened[source]

    def _ask(self, unit: str, start: int, digests: Sequence[str | None]) -> list[Place | None]:
        self._send("find", {"unit": unit, "start": start, "digests": list(digests)})
        return self._answers.get()

    def _progress(self, unit: str, members: int, failed: int) -> None:
        self._send("progress", {"unit": unit, "done": [members, failed]})

    def _alive(self) -> None:
        if time.monotonic() - self._said > ALIVE:
            self._send("alive", {})

    def _announce(self, step: Step) -> None:
        self._send("step", {"step": list(step)})

    def _send(self, kind: str, head: dict[str, Any], body: bytes = b"") -> None:
        with self._sending:
            wire.send(self._outgoing, kind, head, body)
            self._said = time.monotonic()


def main() -> None:
    """Work; what libraries print goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A crash is expected and told; a file of gigabytes for each would fill the user's disk.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    worker = Worker(os.fdopen(os.dup(0), "rb"), outgoing)
    try:
        worker.work()
    except BrokenPipeError:
        pass
    except BaseException as error:  # noqa: BLE001  the run raises it
        worker.fail(error)
    finally:
        sys.stderr.flush()
        # Threads that read or decode are not waited for.
        os._exit(0)


if __name__ == "__main__":
    main()
