"""The end of a cluster that a driver started: its processes, which are of its session, and its files."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

PATIENCE = 10.0
"""Seconds that processes may take to be gone after they were killed."""


def clear(directory: str) -> None:
    """End a cluster of ours, and remove its files.

    Its processes would make them anew, and Ray ends this one when it misses the others: they are
    halted first, and killed when the files are gone.
    """
    _signal(of_this_session(), signal.SIGSTOP)
    shutil.rmtree(directory, ignore_errors=True)
    deadline = time.monotonic() + PATIENCE
    while (left := of_this_session()) and time.monotonic() < deadline:
        _signal(left, signal.SIGKILL)
        time.sleep(0.02)
    shutil.rmtree(directory, ignore_errors=True)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def of_this_session() -> list[int]:
    """The other processes, not dead, of the session that the run began with this process.

    Empty where this one does not lead it, or the system does not say.
    """
    found, own = [], os.getpid()
    if os.getsid(0) != own:
        return []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
            if int(session) == own != int(path.parent.name) and state != "Z":
                found.append(int(path.parent.name))
    return found
