"""Files that one process holds at a time; the kernel frees them however it ends.

So a worker that is killed holds nothing: no lease has to run out and no slot has to be given back,
and a server that is restarted takes nothing away from a run that goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.progress import say

GLANCE_SECONDS = 0.5
"""For as long as somebody may only be looking whether a file is held."""


def take(path: Path, owner: str, what: str) -> IO[str]:
    """Hold `path` until the file is closed or the process ends; waits while another holds it.

    Args:
        path: made where it is missing, its directory too.
        owner: who we are, for those that wait for us.
        what: what the file stands for, in the line that says whom we wait for.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        try:
            if not _taken(file, fcntl.LOCK_EX):
                _wait(file, what)
            if _is_still(file, path):
                file.truncate(0)
                file.write(owner)
                file.flush()
                return file
        except BaseException:
            file.close()
            raise
        file.close()


@contextlib.contextmanager
def turn(path: Path, owner: str, what: str) -> Iterator[None]:
    """`take` for as long as the block runs."""
    with take(path, owner, what):
        yield


def is_held(path: Path) -> bool:
    """Whether a live process holds `path`; one that is not there is not held."""
    try:
        with open(path, encoding="utf-8") as file:
            return not _taken(file, fcntl.LOCK_SH)
    except FileNotFoundError:
        return False


def _taken(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait(file: IO[str], what: str) -> None:
    give_up = time.monotonic() + GLANCE_SECONDS
    while time.monotonic() < give_up:
        time.sleep(GLANCE_SECONDS / 10)
        if _taken(file, fcntl.LOCK_EX):
            return
    file.seek(0)
    say("run", f"waits for {what}, which {file.read().strip() or 'another run'} has")
    fcntl.flock(file, fcntl.LOCK_EX)


def _is_still(file: IO[str], path: Path) -> bool:
    """Whether `path` is the file that was opened: one whose run has ended may be cleared away."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
