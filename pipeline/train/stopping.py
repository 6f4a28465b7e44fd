"""SIGTERM as a wish: noted at once, granted by the run after the step in progress."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class StopRequest:
    """While entered, SIGTERM sets `asked` instead of ending the process.

    Signals belong to the main thread: entered in another, it changes nothing.
    """

    def __init__(self) -> None:
        self.asked = False
        self._former: Any = None
        self._entered = False

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGTERM, self._note)
            self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._entered:
            signal.signal(signal.SIGTERM, self._former)
            self._entered = False
