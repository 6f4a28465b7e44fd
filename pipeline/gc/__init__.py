"""`gc`: what nothing needs any more leaves the work directory.

Needed are: versions that an alias points at or a table was made by, with all that their evidence
names (shard sets, checkpoint, score card, decision); pinned evaluation sets; and whatever was
written lately. Everything else can be made again from its inputs, and is listed, or removed.

Never removed: the registry's database, evidence, the audit log, captions, and what the user's own
files are.
"""

from __future__ import annotations

import contextlib
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from pipeline import storage
from pipeline.errors import BusyError
from pipeline.gc.find import Found, find
from pipeline.gc.needed import needed
from pipeline.progress import say
from pipeline.records import Record
from pipeline.remote import Location

DAY = 24 * 3600.0

__all__ = ["Item", "Report", "collect"]


class Item(Record):
    """Something that nothing needs."""

    path: str
    kind: str
    bytes: int
    removed: bool


class Report(Record):
    """What a collection found, and removed."""

    items: tuple[Item, ...]
    busy: tuple[str, ...]
    """Paths that a run holds; they stay."""

    @property
    def bytes(self) -> int:
        """Of all items."""
        return sum(item.bytes for item in self.items)


def collect(
    work: Path,
    *,
    tables: Sequence[Location] = (),
    keep_days: float = 14.0,
    delete: bool = False,
    now: float | None = None,
) -> Report:
    """List what nothing needs; with `delete`, remove it.

    Args:
        work: the work directory.
        tables: tables outside of it, whose models and old parts count as well.
        keep_days: whatever was written within so many days stays.
        delete: remove it.
        now: seconds since 1970; default: the clock.

    Raises:
        BusyError: a promotion is going on.
        TableError: one of `tables` is none.
        ConfigError: the registry cannot be reached, or is not the one of the promotions here.
        DataError: the pinned evaluation set cannot be read.
        StorageError: the object storage of a table cannot be reached.
    """
    work = work.absolute()
    with storage.lock(work / "promote") if delete else contextlib.nullcontext():
        wanted = needed(work, tables)
        since = (time.time() if now is None else now) - keep_days * DAY
        items, busy = [], []
        for found in find(work, wanted, since):
            size = _size(found.path)
            removed = False
            if delete:
                try:
                    _remove(found)
                    removed = True
                except BusyError:
                    busy.append(str(found.path))
                    continue
            items.append(Item(path=str(found.path), kind=found.kind, bytes=size, removed=removed))
    if busy:
        say("gc", f"{len(busy):,} left alone, since a run holds them")
    return Report(items=tuple(items), busy=tuple(busy))


def _remove(found: Found) -> None:
    """Out of sight at once, then gone: a kill in between leaves no half directory that looks whole.

    Raises:
        BusyError: a run holds it.
    """
    path = found.path
    with storage.lock(found.lock) if found.lock is not None else contextlib.nullcontext():
        if path.is_dir():
            aside = path.with_name(f"{storage.TEMPORARY}{uuid.uuid4().hex}")
            path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size
