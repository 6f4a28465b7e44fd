"""The lines that stages say: text for people, or JSON objects for programs (CAPTIONMILL_LOG=json).

Written to standard error; whoever else wants them, such as an orchestrator, listens. Secrets in
URLs are masked on the way. Knows no stage and no orchestrator.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TextIO

from pipeline.errors import ConfigError
from pipeline.masking import masked

FORMAT = "CAPTIONMILL_LOG"
RUN = "CAPTIONMILL_FLOW_RUN"
"""The id of the flow run that this process, or the one that started it, belongs to."""


@dataclass(frozen=True)
class Line:
    """One thing that was said."""

    stage: str
    message: str
    level: str = "info"
    repeated: bool = False
    """Whether it tells how far a stage is, and another soon will."""


Listener = Callable[[Line], None]
_listeners: list[Listener] = []


def is_json() -> bool:
    """Whether lines are written as JSON.

    Raises:
        ConfigError: CAPTIONMILL_LOG is neither text nor json.
    """
    chosen = os.environ.get(FORMAT) or "text"
    if chosen not in ("text", "json"):
        raise ConfigError(f"{FORMAT} = {chosen!r} is neither text nor json")
    return chosen == "json"


def write(line: Line, out: TextIO | None = None) -> None:
    """Write one line, and tell the listeners."""
    line = Line(line.stage, masked(line.message), line.level, line.repeated)
    text = as_json(line) if is_json() else f"{line.stage:<7} {line.message}"
    print(text, file=out if out is not None else sys.stderr, flush=True)
    tell(line)


def pass_on(text: str) -> None:
    """Write what another process of ours has written, as it is, and tell the listeners."""
    sys.stderr.write(text)
    sys.stderr.flush()
    if _listeners and (line := parse(text)) is not None:
        tell(line)


def tell(line: Line) -> None:
    """Tell the listeners alone."""
    for listener in list(_listeners):
        listener(line)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """`listener` is told of every line meanwhile, from any thread."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def as_json(line: Line) -> str:
    """One object on one line: time (UTC), level, stage, flow_run (none outside of one), message."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields = asdict(line)
    del fields["repeated"]
    return json.dumps({"time": now, "flow_run": os.environ.get(RUN), **fields}, ensure_ascii=False)


def parse(text: str) -> Line | None:
    """The line that was written so; None for an empty one."""
    text = text.strip()
    if not text:
        return None
    try:
        fields = json.loads(text)
        return Line(fields["stage"], fields["message"], fields["level"], repeated=True)
    except (ValueError, TypeError, KeyError):
        stage, _, message = text.partition(" ")
        return Line(stage, message.strip(), repeated=True)
