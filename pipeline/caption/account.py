"""The account of a table: what was planned against what the receipts tell."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from pipeline import storage
from pipeline.caption.table import Marker, Receipt, Table
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
    """The report of a table whose planned units all have a receipt.

    Raises:
        TableError: units are unfinished, or discovered is not captioned + failed + skipped.
    """
    discovered = units = captioned = 0
    failed: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    unfinished: Counter[str] = Counter()
    paths = table.plan.sources()
    for unit, source, rows in table.plan.unit_rows():
        units += 1
        discovered += rows
        receipt = receipts.get(unit)
        if receipt is None:
            unfinished[source] += 1
            continue
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


def report_problems(table: Table, report: TableReport) -> list[str]:
    """How the table's `_report.json` differs from `report` in what it counts."""
    try:
        saved = storage.read_json(table.report)
    except FileNotFoundError:
        return [f"{table.report.name} is missing: no run has ended"]
    except (json.JSONDecodeError, UnicodeDecodeError):
        return [f"{table.report.name} is damaged"]
    return [
        f"{table.report.name} tells {name} {saved.get(name)}, the parts {getattr(report, name)}"
        for name in ("discovered", "captioned", "failed", "skipped", "units")
        if saved.get(name) != getattr(report, name)
    ]
