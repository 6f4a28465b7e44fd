"""Rows of finished units that are made anew: changed pictures, marks, and a refresh.

A unit's rows are replaced in one commit of its part. What is done anew depends on the log of
changes and on the rows alone, so that a run that was killed ends with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from pipeline.caption.changes import Change
from pipeline.caption.members import FAILED, Archive, Member
from pipeline.caption.plan import Relisted, Unit
from pipeline.caption.refresh import Refresh
from pipeline.caption.schema import Row, part_rows, part_table
from pipeline.caption.table import Receipt, Table
from pipeline.errors import ImageError, TableError

AGAIN = "+"
"""Ends the id of a unit of members to caption again; the part is that of the id without it."""

UNREAD = frozenset({"unreadable_file", "unreadable_member"})
"""Codes of pictures that may be readable another day; every run tries them again."""

THREADS = 4
"""Most files that are read at a time to see whether their bytes changed."""


@dataclass
class Counts:
    """What became of rows that were looked at again."""

    again: int = 0
    """Captioned again, since their bytes changed."""
    same: int = 0
    """Listed otherwise, but of the same bytes."""
    refreshed: int = 0
    mended: int = 0
    """Could not be read by an earlier run, and now were."""
    kept: int = 0
    """To be refreshed, but their pictures could not be read; the old rows stay."""


@dataclass
class _Prepared:
    """A unit between its first look and its commit."""

    rows: list[Row]
    """As they are to be, but for those that are captioned."""
    edition: int
    fresh: set[tuple[str, str, int]]
    """Keys of rows that are captioned for a refresh; the others' bytes changed."""


class Updates:
    """What finished units need, as units of the members to caption again."""

    def __init__(
        self,
        table: Table,
        archives: Mapping[str, Archive],
        *,
        relisted: Relisted,
        receipts: Mapping[str, Receipt],
        refresh: Refresh | None,
        max_bytes: int,
        announce: Callable[[int], object] = lambda members: None,
    ) -> None:
        """`archives` by source name; `announce` is told of members to caption as they are found."""
        self.table, self.archives, self.relisted = table, archives, relisted
        self.receipts, self.refresh = receipts, refresh
        self.max_bytes, self.announce = max_bytes, announce
        self.counts = Counts()
        self.made: dict[str, Receipt] = {}
        self.captioned = 0
        """Captions made in this run."""
        self._editions = table.changes.history().editions
        self._changes: Mapping[str, Mapping[tuple[str, int], Change]] = {}
        self._prepared: dict[str, _Prepared] = {}

    def units(self) -> Iterator[Unit]:
        """Units of the members to caption again; those that need none are settled here.

        `finish` is to be called with the rows of each. Begun when the units that are new are
        through, so that these find the same rows to copy from however often a run is killed.
        """
        pending = self.table.pending(self.receipts)
        refreshing = self.refresh.units(self.receipts) if self.refresh else set()
        reading = refreshing | unread_units(self.receipts)
        if not pending and not reading:
            return
        self._changes = self.table.changes.of(pending | reading)
        with ThreadPoolExecutor(THREADS) as pool:
            for unit in self.table.units(pending | reading):
                here = unit.source in self.archives
                if here:
                    members = self._prepare(unit, unit.id in refreshing, pool)
                elif unit.id in pending and self._settles(unit):
                    members = self._prepare(unit, False, pool)
                else:
                    continue  # where changes were left undone, `account` tells of it
                if members:
                    self.announce(len(members))
                    yield Unit(unit.id + AGAIN, unit.source, members)
                else:
                    self._commit(unit.id, {})

    def finish(self, unit: Unit, rows: list[Row]) -> None:
        """Commit the first rows of a new unit, or those of one that `units` gave."""
        self.captioned += sum(row.status == "captioned" for row in rows)
        if unit.id.endswith(AGAIN):
            self._commit(unit.id.removesuffix(AGAIN), {row.key: row for row in rows})
            return
        edition = self._editions.get(unit.id, 0)
        changes = self.table.changes.of({unit.id}).get(unit.id, {}) if edition else {}
        marked = [_marked(row, changes.get((row.member, row.occurrence))) for row in rows]
        self.made[unit.id] = self.table.write(unit.id, part_table(marked), edition)

    def _settles(self, unit: Unit) -> bool:
        """Whether the unit's changes can be followed without its archive."""
        edition = self.receipts[unit.id].edition
        return all(
            change.state != "present" or change.edition <= edition
            for change in self._changes.get(unit.id, {}).values()
        )

    def _prepare(self, unit: Unit, refreshing: bool, pool: ThreadPoolExecutor) -> list[Member]:
        """The members to caption again, as they are now; the rest of the unit is prepared."""
        changes = self._changes.get(unit.id, {})
        seen = self.receipts[unit.id].edition
        old = {row.key: row for row in part_rows(self.table.read(unit.id))}
        if not old.keys() >= set(unit.keys()):
            raise TableError(
                f"{self.table.part(unit.id)} lacks planned rows;"
                " delete it and run `captionmill caption` again"
            )
        archive = self.archives.get(unit.source)
        rows: list[Row] = []
        fresh: set[tuple[str, str, int]] = set()
        again: list[Member] = []
        doubtful: list[tuple[int, Member]] = []
        for member in unit.members:
            change = changes.get((member.name, member.occurrence))
            row = _marked(old[unit.source, member.name, member.occurrence], change)
            rows.append(row)
            if archive is None or not row.in_archive:
                continue
            stale = refreshing and self.refresh is not None and self.refresh.concerns(row)
            if stale or row.error_code in UNREAD:
                now = self.relisted.now(unit.source, member, archive.gone)
                again.append(now if change is None else change.member)
                if stale:
                    fresh.add(row.key)
            elif change is not None and change.edition > seen:
                doubtful.append((len(rows) - 1, change.member))
        if archive is not None:
            again += self._changed(archive, rows, doubtful, pool)
        self._prepared[unit.id] = _Prepared(rows, self._editions.get(unit.id, 0), fresh)
        places = {(m.name, m.occurrence): place for place, m in enumerate(unit.members)}
        return sorted(again, key=lambda member: places[member.name, member.occurrence])

    def _changed(
        self,
        archive: Archive,
        rows: list[Row],
        doubtful: list[tuple[int, Member]],
        pool: ThreadPoolExecutor,
    ) -> list[Member]:
        """Those of the members whose bytes are not their rows'; meta of the others is renewed."""

        def look(place: int, member: Member) -> Row | None:
            return _same_picture(archive, rows[place], member, self.max_bytes)

        run = map if archive.sequential else pool.map
        found = list(run(look, *zip(*doubtful, strict=True))) if doubtful else []
        again = []
        for (place, member), row in zip(doubtful, found, strict=True):
            if row is None:
                again.append(member)
            else:
                rows[place] = row
        self.counts.again += len(again)
        self.counts.same += len(doubtful) - len(again)
        return again

    def _commit(self, unit: str, captioned: Mapping[tuple[str, str, int], Row]) -> None:
        prepared = self._prepared.pop(unit)
        rows = []
        for old in prepared.rows:
            row = captioned.get(old.key, old)
            lost = old.status == "captioned" and row.error_code in FAILED
            if old.key in prepared.fresh and lost:
                # The archive did not give it up today; its caption is not lost for that.
                row = old
                self.counts.kept += 1
            elif old.key in prepared.fresh:
                self.counts.refreshed += 1
            elif old.error_code in UNREAD and row.error_code not in UNREAD:
                self.counts.mended += 1
            rows.append(row)
        if prepared.fresh and self.refresh is not None:
            self.refresh.keep(unit)
        receipt = self.table.write(unit, part_table(rows), prepared.edition)
        if receipt != self.receipts[unit]:
            self.made[unit] = receipt


def unread_units(receipts: Mapping[str, Receipt]) -> set[str]:
    """Finished units with pictures that could not be read."""
    return {unit for unit, receipt in receipts.items() if not UNREAD.isdisjoint(receipt.failed)}


def _marked(row: Row, change: Change | None) -> Row:
    if change is None or row.in_archive == (change.state == "present"):
        return row
    return replace(row, in_archive=change.state == "present")


def _same_picture(archive: Archive, row: Row, member: Member, max_bytes: int) -> Row | None:
    """The row with what the member's sidecars tell now, or None if its bytes are others."""
    if row.sha256 is None or not member.is_input:
        return None
    # Front to back, since a gzipped tar cannot go back.
    early = bool(member.sidecars) and member.sidecars[0].offset < member.offset
    try:
        meta = archive.meta(member) if early else None
        data = archive.read(member, max_bytes)
    except ImageError:
        return None
    if hashlib.sha256(data).hexdigest() != row.sha256:
        return None
    return replace(row, meta=meta if early else archive.meta(member))
