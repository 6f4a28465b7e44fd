"""`caption`: archives of pictures into a Parquet table that accounts for every one of them.

    from pipeline.caption import caption, verify
    report = caption(config.caption, [Path("photos")], Path("captions"), captioner)

Killed at any moment and run again, it finishes without redoing or duplicating anything.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import storage
from pipeline.caption.account import account, report_problems
from pipeline.caption.archives import name_sources, open_archives
from pipeline.caption.attempts import AttemptsDirectory
from pipeline.caption.copies import Copies
from pipeline.caption.engine import Engine, Opened, Run, engine
from pipeline.caption.loader import Loader
from pipeline.caption.parts import Parts
from pipeline.caption.plan import Relisted, Unit
from pipeline.caption.recipe import Captioner
from pipeline.caption.stages import bottleneck
from pipeline.caption.table import Receipt, Table
from pipeline.caption.verify import verify
from pipeline.progress import Progress, say
from pipeline.records import TableReport

if TYPE_CHECKING:
    from pipeline.config import CaptionConfig

__all__ = ["Captioner", "Loader", "caption", "verify"]


def caption(
    config: CaptionConfig, archives: Sequence[Path], table: Path, captioner: Captioner | Loader
) -> TableReport:
    """Caption every picture of the archives (folders, tars, zips) into the directory `table`.

    Pictures that cannot be read are rows with an error code. What an earlier run finished
    is kept; over a grown archive only what is new is captioned. A key is (source, member,
    occurrence), where `source` is the archive's base name (the path as given, if two
    archives share one). Rows of pictures that changed or vanished since stay as they are,
    and a line says how many. Pictures of the same bytes are captioned once.

    A captioner given by a `Loader` works in a process of its own: a decoder that crashes costs
    its picture a failed row. In this process it would end the run, to be run again.

    Raises:
        ArchiveError: no such archive, not a kind that is read, or without a picture.
        TableError: `table` holds something else, or rows of another model or recipe; or
            units of archives that are not among `archives` are unfinished.
        BusyError: another run is writing the table.
        WorkerError: the captioning process dies again and again, and no picture is to blame.
    """
    started, began = datetime.now(UTC), time.monotonic()
    kept = Table(table)
    kept.marker()
    with contextlib.ExitStack() as stack:
        opened = open_archives(archives, exclude=table)
        for archive in opened.values():
            stack.callback(archive.close)
        stack.enter_context(storage.lock(table))
        crew = stack.enter_context(engine(config, captioner))
        marker = crew.marker()
        kept.begin(marker)
        receipts = kept.finished()
        reused, relisted = len(receipts), Relisted()
        sources = name_sources(opened, kept.plan.sources())
        for source in sources:
            kept.plan.extend(source, config.unit_size, set(receipts), relisted)
        paths = {id(archive): os.fspath(path) for path, archive in opened.items()}
        made = _run(
            kept,
            crew,
            archives={s.name: Opened(paths[id(s.archive)], s.archive) for s in sources},
            relisted=relisted,
            receipts=receipts,
        )
        report = account(
            kept,
            marker,
            receipts | made,
            reused=reused,
            seconds=time.monotonic() - began,
            captioned_now=sum(receipt.captioned for receipt in made.values()),
        )
        if made:
            report = report.model_copy(update=_where_time_went(crew))
        _tell(report, relisted)
        if report_problems(kept, report):
            times = {"started": started.isoformat(), "finished": datetime.now(UTC).isoformat()}
            storage.commit_json(kept.report, report.model_dump(mode="json") | times)
    return report


def _run(
    table: Table,
    crew: Engine,
    *,
    archives: Mapping[str, Opened],
    relisted: Relisted,
    receipts: Mapping[str, Receipt],
) -> dict[str, Receipt]:
    """Caption the units of these sources that have no receipt; the receipts made."""
    order = [unit for unit, _, _ in table.plan.unit_rows()]
    done, made = set(receipts), dict[str, Receipt]()
    parts = Parts(table, done, crew.marker().recipe)
    copies, attempts = Copies(order, parts), AttemptsDirectory(table.directory / "_attempts")
    watch = _Watch(table, crew, receipts)
    run = Run(archives, copies.find, attempts, watch.advance)
    units = (u for u in table.plan.units() if u.id not in receipts and u.source in archives)
    with contextlib.closing(crew.run(run, (_now(u, archives, relisted) for u in units))) as out:
        for unit, rows, of in out:
            with crew.stages.busy("write"):
                made[unit.id] = table.write(unit, copies.fill(unit.id, rows, of))
                attempts.forget(unit.id)
            done.add(unit.id)
    if made:
        watch.close()
    return made


def _now(unit: Unit, archives: Mapping[str, Opened], relisted: Relisted) -> Unit:
    """The unit with its members as its archive has them now."""
    gone = archives[unit.source].archive.gone
    members = [relisted.now(unit.source, member, gone) for member in unit.members]
    return Unit(unit.id, unit.source, members)


def _where_time_went(crew: Engine) -> dict[str, Any]:
    seconds = crew.stages.report()
    slowest = bottleneck(seconds, crew.threads)
    return {"engine": crew.name, "stages": seconds, "bottleneck": slowest}


class _Watch:
    """The line of progress: what is done, how much of it failed, and what the run waits for."""

    def __init__(self, table: Table, crew: Engine, receipts: Mapping[str, Receipt]) -> None:
        total = sum(rows for _, _, rows in table.plan.unit_rows())
        done = sum(receipt.rows for receipt in receipts.values())
        self._failed = sum(sum(receipt.failed.values()) for receipt in receipts.values())
        self._progress = Progress("caption", total, done=done)
        self._crew, self._lock = crew, threading.Lock()

    def advance(self, members: int, failed: int) -> None:
        """Count members that are done."""
        with self._lock:
            self._failed += failed
            self._progress.add(members, self._note)

    def close(self) -> None:
        """The last line."""
        with self._lock:
            self._progress.close(self._note())

    def _note(self) -> str:
        slowest = _where_time_went(self._crew)["bottleneck"]
        waits = f"  bottleneck {slowest}" if slowest is not None else ""
        return f"{self._failed:,} failed{waits}"


def _tell(report: TableReport, relisted: Relisted) -> None:
    if report.units_reused == report.units:
        units = f"{report.units:,} unit{'s' if report.units > 1 else ''}"
        say("caption", f"nothing new: {report.discovered:,} members in {units} ({report.table})")
    for number, what in ((relisted.changed, "changed"), (relisted.missing, "vanished")):
        if number:
            say(
                "caption",
                f"{number:,} captioned members have {what} since; their rows stay"
                " (to caption the archive afresh, give another --table)",
            )
