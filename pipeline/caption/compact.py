"""`compact`: a table's rows into a new table of few large parts, in the order of the plan."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import pyarrow as pa
from pydantic import ValidationError

from pipeline import storage
from pipeline.caption.account import account, last_rate, main_marker, save_report
from pipeline.caption.changes import DELETED
from pipeline.caption.marker import Format, Origin
from pipeline.caption.members import Member
from pipeline.caption.plan_file import CHUNK, chunks
from pipeline.caption.schema import ROW_GROUP, SCHEMA
from pipeline.caption.table import Receipt, Table, read_part
from pipeline.caption.verify import strangers
from pipeline.errors import TableError
from pipeline.progress import Progress
from pipeline.records import TableReport
from pipeline.remote import Location

ROWS = ROW_GROUP
"""Rows a part, if nobody says otherwise."""


class _Known(NamedTuple):
    """A row's picture, as the table knows it."""

    source: str
    member: Member
    deleted: bool


def compact(directory: Location, to: Location, rows: int = ROWS) -> TableReport:
    """Write the rows of a finished table into the directory `to`, a table with parts of `rows`.

    A part holds rows of one archive. What the table keeps beside them (the plan, marks, what
    rows were made with) is taken over, so that captioning can go on there. The table itself
    stays as it is. Killed and run again, it goes on.

    Raises:
        TableError: not a finished table, or one that is being written; or `to` holds
            something else.
        BusyError: another run is writing `to`.
    """
    started = datetime.now(UTC)
    table, target = Table(directory), Table(to)
    table.require()
    if storage.is_within(to, directory):
        raise TableError(f"--to {to} lies in the table itself; give another directory")
    if not (to / "_compact.json").exists():
        target.exists()  # a directory of something else gets not even a lock
    receipts = _receipts(table)
    origin = Origin(content=_content(table, receipts), rows=rows)
    with storage.lock(to):
        if not _claim(target, origin):
            _write_plan(table, target, rows)
            _write_marks(table, target)
            _write_parts(table, target, receipts)
            Format().save(to / "_table.json")
        made = target.finished()
        report = account(
            target, main_marker(target, made), made, reused=0, seconds=0.0, captioned_now=0
        )
        report = report.model_copy(update={"images_per_second": last_rate(table) or 0.0})
        save_report(target, report, started, changed=False)
    return report


def _receipts(table: Table) -> dict[str, Receipt]:
    """The receipts of a table that is finished."""
    found = table.load_receipts(unit for unit, _, _ in table.unit_rows())
    # Where a file of the plan is lost, its rows would be, too.
    if stranger := next(strangers(table), None):
        raise TableError(
            f"{table.directory}: {stranger}, and would be left out; `captionmill verify` says more"
        )
    account(table, main_marker(table, found), found, reused=0, seconds=0.0, captioned_now=0)
    return found


def _content(table: Table, receipts: Mapping[str, Receipt]) -> str:
    digest = hashlib.sha256()
    for unit, _, _ in table.unit_rows():
        digest.update(f"{unit} {receipts[unit].sha256} {receipts[unit].edition}\n".encode())
    return digest.hexdigest()


def _claim(target: Table, origin: Origin) -> bool:
    """Make the directory ours; whether it holds the whole of this already."""
    path = target.directory / "_compact.json"
    try:
        found = Origin.load(path)
    except FileNotFoundError:
        if target.exists():
            raise TableError(
                f"{target.directory} is a caption table already; give --to a new directory"
            ) from None
        found = origin
        origin.save(path)
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError):
        raise TableError(f"{path} is damaged; give --to a new directory") from None
    if found != origin:
        raise TableError(
            f"{target.directory} was begun from other rows, or with another number of rows a part"
            f" ({found.rows:,}); delete it or give --to a new directory"
        )
    target.clear()
    return (target.directory / "_table.json").exists()


def _known(table: Table) -> Iterator[_Known]:
    """Every row's picture, in the order of the plan."""
    history = table.changes.history()
    changes = table.changes.of(history.editions.keys())
    for unit in table.units():
        latest = changes.get(unit.id, {})
        for member in unit.members:
            change = latest.get((member.name, member.occurrence))
            now = change.member if change is not None and change.state == "present" else member
            yield _Known(unit.source, now, history.state(unit.id, member) == DELETED)


def _write_plan(table: Table, target: Table, rows: int) -> None:
    for recipe, marker in table.markers().items():
        marker.save(target.recipes / f"{recipe}.json")
    paths, kinds = table.plan.sources(), table.plan.kinds()
    per_file = max(CHUNK // rows, 1) * rows
    written, ordinal, number = target.plan.files(), 0, 0
    for source, known in itertools.groupby(_known(table), key=lambda known: known.source):
        header = {"source": source, "kind": kinds[source], "path": paths[source]}
        for members in chunks((each.member for each in known), per_file, lambda m: m):
            if number < written:
                ordinal += -(-len(members) // rows)
            else:
                ordinal = target.plan.append(number, header, members, rows, ordinal)
            number += 1


def _write_marks(table: Table, target: Table) -> None:
    """The log of changes: which pictures are no longer in their archives."""
    written = len(target.changes.files())
    marks = chunks(_marks(table, target), CHUNK, lambda entry: entry[2])
    for number, entries in enumerate(marks):
        if number >= written:
            target.changes.append(entries)


def _marks(table: Table, target: Table) -> Iterator[tuple[str, str, Member]]:
    known = _known(table)
    for unit in target.plan.units():
        for member, each in zip(unit.members, known, strict=False):
            assert member.name == each.member.name, "the plan that was begun is another"
            if each.deleted:
                yield unit.id, "deleted", member


def _write_parts(table: Table, target: Table, receipts: Mapping[str, Receipt]) -> None:
    done = target.finished()
    editions = target.changes.history().editions
    total = sum(receipt.rows for receipt in receipts.values())
    progress = Progress("compact", total, "rows")
    source = _Rows(table, receipts)
    for unit in target.plan.units():
        length, edition = len(unit.members), editions.get(unit.id, 0)
        receipt = done.get(unit.id)
        if receipt is not None and receipt.edition == edition:
            source.skip(length)
        else:
            target.write(unit.id, source.take(length), edition)
        progress.add(length)
    progress.close()


class _Rows:
    """The rows of a table in order, a stretch at a time; holds one part beyond it."""

    def __init__(self, table: Table, receipts: Mapping[str, Receipt]) -> None:
        self._table, self._receipts = table, receipts
        self._units = (unit for unit, _, _ in table.unit_rows())
        self._rest = SCHEMA.empty_table()
        self._skip = 0

    def skip(self, length: int) -> None:
        """Pass over rows; whole parts of them are not read."""
        self._skip += length

    def take(self, length: int) -> pa.Table:
        """The next rows.

        Raises:
            TableError: a part is not the one that its receipt tells of.
        """
        self._pass_over()
        pieces, missing = [], length
        while missing:
            if not self._rest.num_rows:
                self._rest = self._read(next(self._units))
            piece = self._rest.slice(0, missing)
            self._rest = self._rest.slice(piece.num_rows)
            pieces.append(piece)
            missing -= piece.num_rows
        return pa.concat_tables(pieces)

    def _pass_over(self) -> None:
        while self._skip:
            if not self._rest.num_rows:
                unit = next(self._units)
                if self._receipts[unit].rows <= self._skip:
                    self._skip -= self._receipts[unit].rows
                    continue
                self._rest = self._read(unit)
            passed = min(self._skip, self._rest.num_rows)
            self._rest = self._rest.slice(passed)
            self._skip -= passed

    def _read(self, unit: str) -> pa.Table:
        path = self._table.part(unit)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = b""
        if hashlib.sha256(content).hexdigest() != self._receipts[unit].sha256:
            raise TableError(
                f"{path} is not the file that its receipt tells of: the table is being written, or"
                " damaged (`captionmill verify` says); give --to a new directory then"
            )
        return read_part(content)
