"""The audit log: every decision, approval and rollback, a JSON line each, only ever appended.

WORK/promote/audit.jsonl
"""

from __future__ import annotations

import getpass
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from pipeline.errors import DataError
from pipeline.records import Record

Event = Literal["promoted", "refused", "waiting", "approved", "rolled back", "abandoned"]


class Entry(Record):
    """One line: who, what, why, the numbers, and the aliases before and after."""

    id: str
    time: str
    """UTC, ISO 8601."""
    event: Event
    model: str
    version: int
    asked_by: str
    approved_by: str | None = None
    why: str = ""
    """What the person or the schedule gave as the reason."""
    reason: str = ""
    """What the gate found."""
    decision: str | None = None
    """Fingerprint of the decision."""
    numbers: dict[str, Any] = Field(default_factory=dict)
    before: dict[str, int] = Field(default_factory=dict)
    """Alias to version."""
    after: dict[str, int] = Field(default_factory=dict)


def append(path: Path, entry: Entry) -> None:
    """Add a line, whole; one with the same id is already there after a kill, and stays alone.

    Call it under the promotion's lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)  # a line that a kill or a full disk cut short
        lines = content[:whole].splitlines()
        if any(f'"id":"{entry.id}"'.encode() in line for line in lines):
            return
        file.write(entry.model_dump_json().encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read(path: Path) -> list[Entry]:
    """All entries, oldest first; none where there is no log.

    Raises:
        DataError: a line is no entry; names it.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    entries = []
    # Not `str.splitlines`: a reason may hold other ends of lines, such as U+2028. What stands after
    # the last newline was cut short, and the next append removes it.
    for number, line in enumerate(content.split(b"\n")[:-1], 1):
        try:
            entries.append(Entry.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise DataError(
                f"{path}, line {number} is no entry of the audit log ({problem}); the log is only "
                "ever appended to: put the line back as it was, or move the file away"
            ) from None
    return entries


def now() -> str:
    """The time, as entries have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def this_user() -> str:
    """USER@HOST of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
