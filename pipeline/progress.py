"""What a stage says: one scannable line of progress (done/total, rate, eta), and single lines.

On a terminal the line is redrawn in place; elsewhere it is printed now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from pipeline.masking import masked


def say(stage: str, text: str) -> None:
    """Print one line of a stage's to where its progress goes (standard error)."""
    print(f"{stage:<8}{masked(text)}", file=sys.stderr, flush=True)


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
        self.terminal = self.out.isatty()
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
            self._print(self.line(note if isinstance(note, str) else note()), last=False)

    def close(self, note: str = "") -> None:
        """Print the last line."""
        self._print(self.line(note), last=True)

    def line(self, note: str = "") -> str:
        """The line as it would be printed now."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self.first) / seconds
        text = f"{self.label:<8}{self.done:,}/{self.total:,} {self.unit}  {rate:,.1f} {self.unit}/s"
        if self.done < self.total and rate > 0:
            text += f"  eta {clock((self.total - self.done) / rate)}"
        return f"{text}  {note}" if note else text

    def _print(self, text: str, *, last: bool) -> None:
        if self.terminal:
            padded = text.ljust(self.width)
            self.width = 0 if last else len(text)
            self.out.write(f"\r{padded}" + ("\n" if last else ""))
        else:
            self.out.write(text + "\n")
        self.out.flush()


def clock(seconds: float) -> str:
    """Seconds as `42s`, `3m05s` or `2h07m`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
