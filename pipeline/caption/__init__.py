"""`caption`: archives of pictures into a Parquet table that accounts for every one of them.

    from pipeline.caption import caption, verify
    report = caption(config.caption, [Path("photos")], Path("captions"), captioner)

Killed at any moment and run again, it finishes without redoing or duplicating anything.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import storage
from pipeline.caption.account import account, report_problems
from pipeline.caption.archives import Reading, name_sources, open_archives
from pipeline.caption.engine import Engine
from pipeline.caption.members import Archive
from pipeline.caption.plan import Relisted, Unit
from pipeline.caption.recipe import Captioner, describe
from pipeline.caption.schema import Row
from pipeline.caption.table import Marker, Receipt, Table
from pipeline.caption.verify import verify
from pipeline.progress import Progress, say
from pipeline.records import TableReport
from pipeline.remote import Location

if TYPE_CHECKING:
    from pipeline.config import CaptionConfig

__all__ = ["Captioner", "caption", "verify"]


def caption(
    config: CaptionConfig, archives: Sequence[Location], table: Path, captioner: Captioner
) -> TableReport:
    """Caption every picture of the archives (folders, tars, zips) into the directory `table`.

    Pictures that cannot be read are rows with an error code. What an earlier run finished
    is kept; over a grown archive only what is new is captioned. A key is (source, member,
    occurrence), where `source` is the archive's base name (the path as given, if two
    archives share one). Rows of pictures that changed or vanished since stay as they are,
    and a line says how many.

    Raises:
        ArchiveError: no such archive, not a kind that is read, or without a picture.
        TableError: `table` holds something else, or rows of another model or recipe; or
            units of archives that are not among `archives` are unfinished.
        BusyError: another run is writing the table.
    """
    started, began = datetime.now(UTC), time.monotonic()
    kept, marker = Table(table), describe(config, captioner)
    kept.check(marker)
    with contextlib.ExitStack() as stack:
        opened = open_archives(archives, table, Reading.of(config))
        for archive in opened.values():
            stack.callback(archive.close)
        stack.enter_context(storage.lock(table))
        kept.begin(marker)
        receipts = kept.finished()
        reused, relisted = len(receipts), Relisted()
        sources = name_sources(opened, kept.plan.sources())
        for source in sources:
            kept.plan.extend(source, config.unit_size, set(receipts), relisted)
        made = _run(
            kept,
            config=config,
            captioner=captioner,
            marker=marker,
            archives={source.name: source.archive for source in sources},
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
        _tell(report, relisted)
        if report_problems(kept, report):
            times = {"started": started.isoformat(), "finished": datetime.now(UTC).isoformat()}
            storage.commit_json(kept.report, report.model_dump(mode="json") | times)
    return report


def _run(
    table: Table,
    *,
    config: CaptionConfig,
    captioner: Captioner,
    marker: Marker,
    archives: Mapping[str, Archive],
    relisted: Relisted,
    receipts: Mapping[str, Receipt],
) -> dict[str, Receipt]:
    """Caption the units of these sources that have no receipt; the receipts made."""
    total = sum(rows for _, source, rows in table.plan.unit_rows())
    done = sum(receipt.rows for receipt in receipts.values())
    failed = sum(sum(receipt.failed.values()) for receipt in receipts.values())
    progress = Progress("caption", total, done=done)
    made: dict[str, Receipt] = {}

    def advance(members: int, failures: int) -> None:
        nonlocal failed
        failed += failures
        progress.add(members, f"{failed:,} failed")

    def finish(unit: Unit, rows: list[Row]) -> None:
        made[unit.id] = table.write(unit, rows)

    engine = Engine(
        config=config,
        captioner=captioner,
        marker=marker,
        archives=archives,
        relisted=relisted,
        progress=advance,
    )
    units = table.plan.units()
    engine.run((u for u in units if u.id not in receipts and u.source in archives), finish)
    if made:
        progress.close(f"{failed:,} failed")
    return made


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
