"""How far a bulk run is, in Prefect's UI: an artifact that is renewed while the run goes on.

It is a convenience: whatever Prefect answers, the run goes on and its result is the same.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Callable, Iterator
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from pipeline.caption.watch import Standing
from pipeline.progress import clock, say

KEY = "captionmill-caption-progress"

EVERY = 3.0
"""Seconds between two renewals, at least."""

PATIENCE = 5.0
"""Seconds that the end of a run waits for the last renewal."""


class ProgressArtifact:
    """The latest standing, told to Prefect from a thread of its own."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._latest: Standing | None = None
        self._told: Standing | None = None
        self._artifact: UUID | None = None
        self._over = threading.Event()
        # The run that it belongs to is known by the context.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._tell,), daemon=True)

    def note(self, standing: Standing) -> None:
        """Take note; returns at once, from any thread."""
        self._latest = standing

    def start(self) -> None:
        """Begin to tell."""
        self._thread.start()

    def stop(self) -> None:
        """Tell the last, and end."""
        self._over.set()
        self._thread.join(PATIENCE)

    def _tell(self) -> None:
        try:
            while not self._over.wait(self._every):
                self._renew()
            self._renew()
        except Exception as error:  # noqa: BLE001  the run must not end for this
            reason = str(error).partition("\n")[0] or "no reason given"
            say(
                "caption",
                f"Prefect takes no more progress ({type(error).__name__}: {reason}); the run goes on",
            )

    def _renew(self) -> None:
        standing = self._latest
        if standing is None or standing == self._told:
            return
        percent, text = 100 * standing.done / max(standing.total, 1), described(standing)
        if self._artifact is None:
            made = create_progress_artifact(percent, key=KEY, description=text)
            assert isinstance(made, UUID), "a thread has no event loop, so Prefect waits"
            self._artifact = made
        else:
            update_progress_artifact(self._artifact, percent, description=text)
        self._told = standing


def described(standing: Standing) -> str:
    """`1,204 of 7,000 pictures; 23.1 a second, 4m11s to go; 3 failed; bottleneck search`."""
    rate, left = standing.images_per_second, standing.total - standing.done
    speed = f"{rate:,.1f} a second"
    if left and rate > 0:
        speed += f", {clock(left / rate)} to go"
    slow = f"; bottleneck {standing.bottleneck}" if standing.bottleneck else ""
    return (
        f"{standing.done:,} of {standing.total:,} pictures; {speed}; "
        f"{standing.failed:,} failed{slow}"
    )


@contextlib.contextmanager
def told_to_prefect() -> Iterator[Callable[[Standing], None]]:
    """A function to tell how far a run is; what it is told is shown in Prefect's UI."""
    artifact = ProgressArtifact()
    artifact.start()
    try:
        yield artifact.note
    finally:
        artifact.stop()
