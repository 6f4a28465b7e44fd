"""What a stage says: one scannable line of progress (done/total, rate, eta), and single lines.

On a terminal the line is redrawn in place; elsewhere it is printed now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from pipeline.log_lines import Line, is_json, tell, write


def say(stage: str, text: str, level: str = "info", *, repeated: bool = False) -> None:
    """Print one line of a stage's to where its progress goes (standard error).

    Args:
        stage: who says it.
        text: what.
        level: info, warning or error.
        repeated: it tells how far the stage is, and another line soon will.
    """
    write(Line(stage, text, level, repeated))


class Progress:
    """Counts towards `total` and prints at most every `every` seconds (0.2 on a terminal)."""

    def __init__(
        self,
        label: str,
        total: int,
        unit: str = "img",
        *,
        done: int = 0,
        every: float = 10.0,
        out: TextIO | None = None,
    ) -> None:
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self.out = out if out is not None else sys.stderr
        self.terminal = self.out.isatty() and not is_json()
        self.every = 0.2 if self.terminal else every
        self.first, self.started = done, time.monotonic()
        self.printed = self.started
        self.width = 0

    def add(self, count: int = 1, note: str | Callable[[], str] = "") -> None:
        """Count `count` more and print the line if it is time; only then is `note` called."""
        self.done += count
        now = time.monotonic()
        if now - self.printed >= self.every:
            self.printed = now
            self._print(note if isinstance(note, str) else note(), last=False)

    def close(self, note: str = "") -> None:
        """Print the last line."""
        self._print(note, last=True)

    def line(self, note: str = "") -> str:
        """The line as it would be printed now."""
        return f"{self.label:<7} {self._told(note)}"

    def _told(self, note: str) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self.first) / seconds
        text = f"{self.done:,}/{self.total:,} {self.unit}  {rate:,.1f} {self.unit}/s"
        if self.done < self.total and rate > 0:
            text += f"  eta {clock((self.total - self.done) / rate)}"
        return f"{text}  {note}" if note else text

    def _print(self, note: str, *, last: bool) -> None:
        line = Line(self.label, self._told(note), repeated=not last)
        if not self.terminal:
            write(line, self.out)
            return
        text = f"{self.label:<7} {line.message}"
        padded = text.ljust(self.width)
        self.width = 0 if last else len(text)
        self.out.write(f"\r{padded}" + ("\n" if last else ""))
        self.out.flush()
        tell(line)


def clock(seconds: float) -> str:
    """Seconds as `42s`, `3m05s` or `2h07m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
