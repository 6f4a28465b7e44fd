"""What a run says: the line of progress, how far it is for whoever asks, and what it found.

It knows no engine: which stage the others wait for is asked from a function.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pipeline.caption.changes import Noted
from pipeline.caption.plan import Relisted
from pipeline.caption.table import Receipt, Table
from pipeline.caption.timeline import now
from pipeline.caption.updates import Counts
from pipeline.progress import Progress, say
from pipeline.records import TableReport


@dataclass(frozen=True)
class Standing:
    """How far a run is."""

    done: int
    """Pictures, those of earlier runs among them."""
    total: int
    failed: int
    images_per_second: float
    """Of this run."""
    bottleneck: str | None


class Watch:
    """Counts what is done, of all threads."""

    def __init__(
        self,
        table: Table,
        receipts: Mapping[str, Receipt],
        bottleneck: Callable[[], str | None],
        listener: Callable[[Standing], object] | None = None,
    ) -> None:
        """`listener` is told now and then; it is called on whichever thread was counting."""
        rows = {unit: rows for unit, _, rows in table.unit_rows()}
        total, done = sum(rows.values()), sum(rows[unit] for unit in receipts if unit in rows)
        self.first_row: float | None = None
        """When the first unit was committed, by `timeline.now`."""
        self._failed = sum(sum(receipt.failed.values()) for receipt in receipts.values())
        self._progress = Progress("caption", total, done=done)
        self._bottleneck, self._listener = bottleneck, listener
        self._lock = threading.Lock()

    @property
    def done_now(self) -> int:
        """Pictures that this run is done with."""
        return self._progress.done - self._progress.first

    def advance(self, members: int, failed: int) -> None:
        """Count members that are done."""
        with self._lock:
            self._failed += failed
            self._progress.add(members, self._note)
            if self._listener is not None:
                self._listener(self._standing())

    def announce(self, members: int) -> None:
        """Count members that are to be captioned again."""
        with self._lock:
            self._progress.total += members

    def committed(self) -> None:
        """Note that a unit is in the table."""
        if self.first_row is None:
            self.first_row = now()

    def close(self) -> None:
        """The last line, if anything was done."""
        with self._lock:
            if self.done_now > 0:
                self._progress.close(self._note())

    def _standing(self) -> Standing:
        seconds = max(time.monotonic() - self._progress.started, 1e-9)
        return Standing(
            done=self._progress.done,
            total=self._progress.total,
            failed=self._failed,
            images_per_second=self.done_now / seconds,
            bottleneck=self._bottleneck(),
        )

    def _note(self) -> str:
        slowest = self._bottleneck()
        waits = f"  bottleneck {slowest}" if slowest is not None else ""
        return f"{self._failed:,} failed{waits}"


def tell(report: TableReport, relisted: Relisted, noted: Noted, counts: Counts) -> None:
    """Say what a run found, where it is worth a line."""
    if report.units_reused == report.units and not (any(noted) or any(vars(counts).values())):
        units = f"{report.units:,} unit{'s' if report.units > 1 else ''}"
        say("caption", f"nothing new: {report.discovered:,} members in {units} ({report.table})")
    for number, what in (
        (counts.again, "changed since and were captioned again"),
        (counts.same, "have another time or place, but the same bytes; their rows stay"),
        (counts.mended, "could not be read by an earlier run, and now were"),
        (counts.refreshed, "captioned anew; `--rollback` brings the old rows back"),
        (counts.kept, "could not be read to caption them anew; their rows stay"),
        (noted.back, "are in their archive again"),
        (
            noted.deleted,
            "are no longer in their archive; their rows stay, marked (--prune removes them)",
        ),
        (noted.pruned, "are no longer in their archive; their rows were removed"),
        (relisted.unsure, "are not listed by a damaged archive; their rows stay"),
        (
            report.stale,
            "captioned by another model or other settings; `captionmill stale` tells more,"
            " --refresh captions them anew",
        ),
    ):
        if number:
            say("caption", f"{number:,} picture{'' if number == 1 else 's'}: {what}")
