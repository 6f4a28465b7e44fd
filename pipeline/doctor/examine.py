"""Checks run side by side, each in a process of its own, none longer than its deadline."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from pydantic import ValidationError

from pipeline.doctor.finding import Finding, Inputs, wrong

SIDE_BY_SIDE = 4
STEP = 0.02
"""Seconds between two looks at the processes."""
FAREWELL = 2.0
"""Seconds in which a killed process should be gone; one that a dead mount holds is left behind."""


class Check(NamedTuple):
    """A module with a function `check`, and how long it may take."""

    subject: str
    module: str
    seconds: float


class _Running:
    def __init__(self, check: Check, inputs: Inputs) -> None:
        self.check = check
        self.give_up = time.monotonic() + check.seconds
        # Files, not pipes: what was said before it hung can be read whatever holds the other end.
        self.findings = tempfile.TemporaryFile()  # noqa: SIM115  closed when it is read
        self.noise = tempfile.TemporaryFile()  # noqa: SIM115
        with tempfile.TemporaryFile() as given:
            given.write(inputs.model_dump_json().encode())
            given.seek(0)
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline.doctor", check.module],
                stdin=given,
                stdout=self.findings,
                stderr=self.noise,
                start_new_session=True,
            )

    def is_over(self) -> bool:
        return self.process.poll() is not None or time.monotonic() > self.give_up

    def close(self) -> list[Finding]:
        """What it found; and how it ended, if it did not end by itself."""
        ended = self.process.poll()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # and what it started
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(FAREWELL)
        found = list(_parsed(_content(self.findings)))
        if ended != 0:
            found.append(self._failed(ended, _content(self.noise).strip()))
        return found

    def _failed(self, ended: int | None, noise: str) -> Finding:
        subject = self.check.subject
        if ended is None:
            return wrong(
                subject,
                f"no answer in {self.check.seconds:.0f} s; the check was given up",
                "something below it hangs: a network mount, a driver, or a server that accepts and "
                "does not answer",
            )
        last = noise.splitlines()[-1] if noise else "it said nothing"
        how = f"by {signal.Signals(-ended).name}" if ended < 0 else f"with exit code {ended}"
        return wrong(subject, f"the check itself ended {how}: {last}", "report this with the line")


def examine(checks: Sequence[Check], inputs: Inputs) -> Iterator[list[Finding]]:
    """The findings of each check, in the order of `checks`, as soon as they are known."""
    waiting, running = deque(enumerate(checks)), dict[int, _Running]()
    done: dict[int, list[Finding]] = {}
    try:
        for place in range(len(checks)):
            while place not in done:
                while waiting and len(running) < SIDE_BY_SIDE:
                    number, check = waiting.popleft()
                    running[number] = _Running(check, inputs)
                for number in [key for key, each in running.items() if each.is_over()]:
                    done[number] = running[number].close()
                    del running[number]
                time.sleep(STEP)
            yield done[place]
    finally:
        for each in running.values():
            each.close()


def _content(file: IO[bytes]) -> str:
    file.seek(0)
    with file:
        return file.read().decode("utf-8", errors="replace")


def _parsed(text: str) -> Iterator[Finding]:
    for line in text.splitlines():
        with contextlib.suppress(ValidationError):  # cut off when it was killed
            yield Finding.model_validate_json(line)
