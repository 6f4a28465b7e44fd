"""A process of this package as its parent sees it: started, spoken to, and how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.caption import wire

TAIL = 5
"""Lines of what it printed that an error quotes."""

PATIENCE = 10.0
"""Seconds that a process may take to end after it closed its output."""


class Child:
    """`python -m MODULE`, which speaks `wire.py` and ends when its input does."""

    def __init__(self, module: str, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        """Start it; `environment` is added to this process's own."""
        self._oom_kills = oom_kills()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            env={**_environment(), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Ctrl-C reaches the run alone, which ends its processes.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._incoming, self._outgoing = self._process.stdout, self._process.stdin
        self._tail: deque[str] = deque(maxlen=TAIL)
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.pid = self._process.pid

    def send(self, kind: str, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a frame; if the process is gone, the next `receive` tells."""
        # A closed stream is that of a process that was ended.
        with contextlib.suppress(OSError, ValueError):
            wire.send(self._outgoing, kind, head, body)

    def receive(self) -> wire.Frame | None:
        """The next frame; None when the process is gone.

        Raises:
            CaptionmillError: what it met, if it says so.
            RuntimeError: the process met a bug.
        """
        frame = wire.receive(self._incoming)
        if frame is not None and frame.kind == "error":
            raise wire.error_from_json(frame.head)
        return frame

    def close(self, seconds: float) -> None:
        """Let it end by itself, for so long; then kill it."""
        with contextlib.suppress(OSError):
            self._outgoing.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        self.end()

    def end(self) -> None:
        """Kill it, if it is alive; it holds nothing that could be lost."""
        self._process.kill()
        self._process.wait()
        self._listener.join(PATIENCE)
        for stream in (self._incoming, self._outgoing, self._process.stderr):
            # What was not sent yet cannot be.
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def autopsy(self) -> tuple[str, bool]:
        """How it ended, in words, and whether of its own doing or for want of memory."""
        try:
            code = self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.end()
            return "closed its output and went on", True
        self.end()
        if code >= 0:
            return f"ended with exit code {code}{self._last_words()}", True
        name = signal.Signals(-code).name
        if -code != signal.SIGKILL:
            return f"was ended by {name}{self._last_words()}", -code != signal.SIGTERM
        starved = oom_kills() > self._oom_kills
        return f"was killed ({name}{', out of memory' if starved else ''})", starved

    def _last_words(self) -> str:
        said = " | ".join(line for line in self._tail if line)
        return f": {said}" if said else ""

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(ValueError, OSError):
            while line := self._process.stderr.readline(2000):
                self._tail.append(line.decode(errors="replace").strip())


def _environment() -> dict[str, str]:
    """This process's own, and where this package is."""
    ours = {"PYTHONSAFEPATH": "1"}  # the user's folder may have a `pipeline` too
    source = Path(__file__).parents[2]
    if not source.name.endswith("-packages"):  # a checkout; what is installed is found anyway
        paths = [str(source), *filter(None, [os.environ.get("PYTHONPATH")])]
        ours["PYTHONPATH"] = os.pathsep.join(paths)
    return {**os.environ, **ours}


def oom_kills() -> int:
    """How often this machine has killed a process for want of memory; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, number = line.partition(" ")
            if name == "oom_kill":
                return int(number)
    return 0
