"""`caption`: archives of pictures into a Parquet table that accounts for every one of them.

    from pipeline.caption import caption, verify
    report = caption(config.caption, [Path("photos")], Path("captions"), captioner)

Killed at any moment and run again, it finishes without redoing or duplicating anything.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline import storage
from pipeline.caption.account import account, main_marker, save_report
from pipeline.caption.archives import Reading, Source, name_sources, open_archives
from pipeline.caption.attempts import AttemptsDirectory
from pipeline.caption.changes import Noted, check_prune, note
from pipeline.caption.compact import compact
from pipeline.caption.copies import Copies
from pipeline.caption.engine import Engine, Opened, Run, engine
from pipeline.caption.export import export
from pipeline.caption.loader import Loader
from pipeline.caption.parts import Parts
from pipeline.caption.plan import Relisted, Unit
from pipeline.caption.profile import Measured, save_profile
from pipeline.caption.recipe import Captioner
from pipeline.caption.refresh import Refresh, forget, roll_back
from pipeline.caption.schema import prepare_arrow
from pipeline.caption.stages import bottleneck
from pipeline.caption.stale import Staleness, staleness
from pipeline.caption.table import Receipt, Table
from pipeline.caption.timeline import now
from pipeline.caption.updates import Updates, unread_units
from pipeline.caption.verify import verify
from pipeline.caption.watch import Standing, Watch, tell
from pipeline.progress import say
from pipeline.records import TableReport
from pipeline.remote import Location

if TYPE_CHECKING:
    from pipeline.caption.marker import Marker
    from pipeline.caption.members import Archive
    from pipeline.config import CaptionConfig

__all__ = [
    "Captioner",
    "Loader",
    "Staleness",
    "Standing",
    "caption",
    "compact",
    "export",
    "rollback",
    "staleness",
    "verify",
]


def caption(
    config: CaptionConfig,
    archives: Sequence[Location],
    table: Location,
    captioner: Captioner | Loader,
    *,
    refresh: bool = False,
    prune: bool = False,
    prune_all: bool = False,
    progress: Callable[[Standing], object] | None = None,
    since: float | None = None,
) -> TableReport:
    """Caption every picture of the archives (folders, tars, zips) into the directory `table`.

    Pictures that cannot be read are rows with an error code. What an earlier run finished
    is kept; over a grown archive only new and changed pictures are captioned. A key is
    (source, member, occurrence), where `source` is the archive's base name (the path as
    given, if two archives share one). Rows that another model or other settings made stay.
    Pictures of the same bytes are captioned once.

    A captioner given by a `Loader` works in a process of its own: a decoder that crashes costs
    its picture a failed row. In this process it would end the run, to be run again.

    Args:
        config: the stage's settings.
        archives: folders, tars or zips.
        table: the table's directory; new, empty, or of an earlier run.
        captioner: the model.
        refresh: caption anew what another model or other settings captioned; `rollback`
            brings the old rows back.
        prune: remove the rows of pictures that the archives no longer hold, instead of
            marking them; refused where that is more than half of an archive's rows.
        prune_all: remove them however many they are, of an archive that is gone as well.
        progress: told how far the run is, often and from any thread; it must not raise.
        since: when the command began, by `timeline.now`; a profile counts from there.

    Raises:
        ArchiveError: no such archive, not a kind that is read, or without a picture.
        TableError: `table` holds something else; units of archives that are not among
            `archives` are unfinished; or most of an archive would be pruned.
        BusyError: another run is writing the table.
        WorkerError: the captioning process dies again and again, and no picture is to blame.
    """
    started, began, entered = datetime.now(UTC), time.monotonic(), now()
    since = entered if since is None else since
    kept = Table(table)
    new = not kept.exists()
    with contextlib.ExitStack() as stack:
        crew = stack.enter_context(engine(config, captioner))
        if config.profile:
            crew.stages.record()
        crew.stages.span("start", since, entered)
        with crew.stages.busy("list"):
            known = {} if new else kept.plan.sources()
            prepare_arrow()
            opened = open_archives(archives, table, Reading.of(config), known, emptied=prune_all)
        for archive in opened.values():
            stack.callback(archive.close)
        if new:
            _ready(crew)  # what cannot work leaves no directory behind
        # A second run on a table is refused without waiting for its model.
        stack.enter_context(storage.lock(table))
        marker = _ready(crew)
        planning = now()
        kept.begin(marker)
        receipts = kept.finished()
        again = Refresh(kept, marker) if refresh else None
        refreshing = again.units(receipts) if again is not None else set()
        if again is not None and refreshing:
            again.begin()
        reading = refreshing | unread_units(receipts)
        listed = _plan(kept, opened, config, receipts, reading, prune=prune, prune_all=prune_all)
        crew.stages.span("plan", planning, now())
        paths = {id(archive): str(path) for path, archive in opened.items()}
        watch = Watch(kept, receipts, lambda: _bottleneck(crew), progress)
        updates = _run(
            kept,
            crew,
            watch,
            archives={s.name: Opened(paths[id(s.archive)], s.archive) for s in listed.sources},
            relisted=listed.relisted,
            receipts=receipts,
            refresh=again,
            max_bytes=config.max_bytes,
        )
        accounting = now()
        finished = receipts | updates.made
        if again is not None:
            again.end(finished)
        report = account(
            kept,
            marker,
            finished,
            reused=len(receipts),
            seconds=time.monotonic() - began,
            captioned_now=updates.captioned,
        )
        if updates.made:
            report = report.model_copy(update=_where_time_went(crew))
        tell(report, listed.relisted, listed.noted, updates.counts)
        save_report(kept, report, started, changed=bool(updates.made))
        crew.stages.span("account", accounting, now())
        if config.profile:
            measured = Measured(since, watch.first_row, watch.done_now)
            save_profile(table, crew.stages, report, measured)
    return report


def rollback(table: Location) -> TableReport:
    """Bring back the rows that the table's last refresh replaced.

    Rows that came since, and rows of pictures that changed since, stay as they are.

    Raises:
        TableError: not a table, no refresh to roll back, or units are unfinished.
        BusyError: another run is writing the table.
    """
    started, began = datetime.now(UTC), time.monotonic()
    kept = Table(table)
    kept.require()
    with storage.lock(table):
        kept.clear()
        parts = roll_back(kept)
        receipts = kept.finished()
        report = account(
            kept,
            main_marker(kept, receipts),
            receipts,
            reused=len(receipts),
            seconds=time.monotonic() - began,
            captioned_now=0,
        )
        save_report(kept, report, started, changed=True)
        forget(kept)
    say("caption", f"{parts:,} parts brought back")
    return report


class _Listed(NamedTuple):
    """What the archives of a run hold, beside what the table knew."""

    sources: list[Source]
    relisted: Relisted
    noted: Noted


def _plan(
    kept: Table,
    opened: Mapping[Location, Archive],
    config: CaptionConfig,
    receipts: Mapping[str, Receipt],
    reading: set[str],
    *,
    prune: bool,
    prune_all: bool,
) -> _Listed:
    """List the archives: plan what is new, note what changed; `reading` are units to be read."""
    relisted, history = Relisted(), kept.changes.history().known
    sources = name_sources(opened, kept.plan.sources())
    for source in sources:
        kept.plan.extend(
            source,
            config.unit_size,
            relisted,
            done=receipts.keys(),
            again=reading,
            history=history,
        )
    names = {source.name for source in sources}
    if prune and not prune_all:
        check_prune(relisted.missing_of, _rows_of(kept, receipts), kept.plan.sources())
    planned = (unit for unit in kept.plan.units() if unit.source in names)
    noted = note(kept.changes, planned, relisted, receipts.keys(), prune or prune_all)
    return _Listed(sources, relisted, noted)


def _run(
    table: Table,
    crew: Engine,
    watch: Watch,
    *,
    archives: Mapping[str, Opened],
    relisted: Relisted,
    receipts: Mapping[str, Receipt],
    refresh: Refresh | None,
    max_bytes: int,
) -> Updates:
    """Caption the units of these sources that have no receipt, then what others need anew."""
    sources = {unit: source for unit, source, _ in table.plan.unit_rows()}
    new = {u for u, source in sources.items() if u not in receipts and source in archives}
    done = set(receipts)
    parts = Parts(table, done, crew.marker().recipe)
    attempts = AttemptsDirectory(table.directory / "_attempts", receipts)
    updates = Updates(
        table,
        {name: opened.archive for name, opened in archives.items()},
        relisted=relisted,
        receipts=receipts,
        refresh=refresh,
        max_bytes=max_bytes,
        announce=watch.announce,
    )

    def work(units: Iterable[Unit], copies: Copies) -> None:
        run = Run(archives, copies.find, attempts, watch.advance)
        now = (_now(unit, archives, relisted) for unit in units)
        with contextlib.closing(crew.run(run, now)) as out:
            for unit, rows, of in out:
                with crew.stages.busy("write"):
                    updates.finish(unit, copies.fill(unit.id, rows, of))
                    attempts.forget(unit.id)
                watch.committed()
                done.add(unit.id)

    if new:
        work(table.units(new), Copies(sources, parts))
    work(updates.units(), Copies())
    watch.close()
    return updates


def _rows_of(table: Table, receipts: Mapping[str, Receipt]) -> Counter[str]:
    """How many rows there are, by source."""
    rows: Counter[str] = Counter()
    for unit, source, planned in table.unit_rows():
        rows[source] += planned if unit in receipts else 0
    return rows


def _now(unit: Unit, archives: Mapping[str, Opened], relisted: Relisted) -> Unit:
    """The unit with its members as its archive has them now."""
    gone = archives[unit.source].archive.gone
    members = [relisted.now(unit.source, member, gone) for member in unit.members]
    return Unit(unit.id, unit.source, members)


def _ready(crew: Engine) -> Marker:
    with crew.stages.busy("await workers"):
        return crew.marker()


def _bottleneck(crew: Engine) -> str | None:
    return bottleneck(crew.stages.report(), crew.threads)


def _where_time_went(crew: Engine) -> dict[str, Any]:
    seconds, slowest = crew.stages.report(), _bottleneck(crew)
    return {"engine": crew.name, "stage_seconds": seconds, "bottleneck": slowest}
