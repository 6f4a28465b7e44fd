"""The account of a table: what was planned against what the receipts tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pipeline import storage
from pipeline.caption.marker import Marker
from pipeline.caption.refresh import stale_recipes, stale_rows
from pipeline.caption.sealed import seal, unseal
from pipeline.caption.table import Receipt, Table
from pipeline.errors import TableError
from pipeline.records import TableReport


def account(
    table: Table,
    marker: Marker,
    receipts: Mapping[str, Receipt],
    *,
    reused: int,
    seconds: float,
    captioned_now: int,
) -> TableReport:
    """The report of a table whose planned units all have a receipt; `marker` is the run's own.

    Raises:
        TableError: units are unfinished, do not follow the log of changes, or discovered is not captioned + failed + skipped.
    """
    discovered = units = captioned = deleted = old = 0
    failed: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    unfinished: Counter[str] = Counter()
    paths = table.plan.sources()
    pending, stale = table.pending(receipts), stale_recipes(table, marker)
    for unit, source, rows in table.unit_rows():
        units += 1
        discovered += rows
        receipt = receipts.get(unit)
        if receipt is None or unit in pending:
            unfinished[source] += 1
            continue
        deleted += sum(receipt.deleted.values())
        old += stale_rows(receipt, stale)
        captioned += receipt.captioned
        failed.update(receipt.failed)
        skipped.update(receipt.skipped)
    if unfinished:
        missing = ", ".join(
            f"{n:,} of {source} ({paths[source]})" for source, n in unfinished.items()
        )
        raise TableError(
            f"{table.directory} has unfinished units: {missing};"
            " run `captionmill caption` with those archives to finish it"
        )
    report = TableReport(
        table=str(table.directory.resolve()),
        model=marker.model.ref,
        recipe=marker.recipe,
        discovered=discovered,
        captioned=captioned,
        failed=dict(sorted(failed.items())),
        skipped=dict(sorted(skipped.items())),
        deleted=deleted,
        stale=old,
        units=units,
        units_reused=reused,
        seconds=round(seconds, 3),
        images_per_second=round(captioned_now / seconds, 3) if seconds > 0 else 0.0,
    )
    if not report.balanced():
        raise TableError(
            f"{table.directory} does not balance: {discovered:,} discovered, but {captioned:,}"
            f" captioned + {failed.total():,} failed + {skipped.total():,} skipped;"
            " `captionmill verify` says which unit"
        )
    return report


def main_marker(table: Table, receipts: Mapping[str, Receipt]) -> Marker:
    """What most rows of the table were made with.

    Raises:
        TableError: no run has come far enough to say.
    """
    rows: Counter[str] = Counter()
    for receipt in receipts.values():
        rows.update(receipt.recipes)
    markers = table.markers()
    known = sorted(markers, key=lambda recipe: (-rows[recipe], recipe))
    if not known:
        raise TableError(
            f"{table.directory} is unfinished: run `captionmill caption` again to finish it"
        )
    return markers[known[0]]


def save_report(table: Table, report: TableReport, started: datetime, *, changed: bool) -> None:
    """Commit `_report.json`, unless it tells all that already and the run changed nothing.

    A run that captioned nothing has no rate of its own; the last one's is kept.
    """
    saved = _saved(table)
    told = saved is not None and all(
        saved.get(name) == getattr(report, name) for name in (*COUNTED, "model", "recipe", "stale")
    )
    if told and not changed:
        return
    times = {"started": started.isoformat(), "finished": datetime.now(UTC).isoformat()}
    values = report.model_dump(mode="json") | times
    if saved is not None and not report.images_per_second:
        values["images_per_second"] = saved.get("images_per_second", 0.0)
    storage.commit_json(table.report, seal(values))


COUNTED = ("discovered", "captioned", "failed", "skipped", "deleted", "units")
"""What a report tells of the rows."""


def _saved(table: Table) -> dict[str, Any] | None:
    try:
        saved = storage.read_json(table.report)
        return unseal(saved) if isinstance(saved, dict) else None
    except (FileNotFoundError, ValueError):
        return None


def report_problems(table: Table, report: TableReport) -> list[str]:
    """How the table's `_report.json` differs from `report` in what it counts."""
    saved = _saved(table)
    if saved is None:
        missing = not table.report.exists()
        return [f"{table.report.name} is {'missing: no run has ended' if missing else 'damaged'}"]
    unknown = saved.keys() - TableReport.model_fields.keys() - {"started", "finished"}
    return [f"{table.report.name} tells of unknown {name!r}" for name in sorted(unknown)] + [
        f"{table.report.name} tells {name} {saved.get(name)}, the parts {getattr(report, name)}"
        for name in COUNTED
        if saved.get(name) != getattr(report, name)
    ]


def last_rate(table: Table) -> float | None:
    """Pictures a second of the last run that captioned any."""
    rate = (_saved(table) or {}).get("images_per_second")
    return float(rate) if isinstance(rate, int | float) and rate > 0 else None
