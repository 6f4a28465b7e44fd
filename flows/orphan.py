"""A run whose worker was killed goes on: what it says goes nowhere then, instead of ending it.

A worker reads its runs' output through pipes. When it dies, the next line that a run writes would
raise BrokenPipeError, and in rich, which Prefect's console log writes through, SystemExit.
"""

from __future__ import annotations

import os
import select
import threading

OUTPUT = (1, 2)
"""The file descriptors of standard output and standard error."""


def outlive_worker() -> None:
    """From now on this process, and what it starts later, may write though nobody reads any more.

    But for the moment that a thread needs to wake up: a line of just then still ends the run, which
    `captionmill watch` starts again.
    """
    threading.Thread(target=_wait_for_the_end, name="output", daemon=True).start()


def _wait_for_the_end() -> None:
    # With no event asked for, poll reports errors alone: that a pipe's other end was closed.
    watched, open_ones = select.poll(), set(OUTPUT)
    for output in OUTPUT:
        watched.register(output, 0)
    while open_ones:
        for output, event in watched.poll():
            watched.unregister(output)
            open_ones.discard(output)
            if not event & select.POLLNVAL:  # which is closed here, and stays so
                _to_nowhere(output)


def _to_nowhere(output: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output)
    os.close(nowhere)
