"""The log of what became of planned members since: changed, deleted, pruned.

TABLE/_changes/NNNNNN-<digest>.parquet; files are only ever added, each committed once, and
before any row follows it. The number of a file, from 1, is its edition: a unit's receipt tells
up to which edition its rows follow the log. Following it again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from pipeline.caption.members import Member, key_digest
from pipeline.caption.plan import PRUNED, Relisted, Unit, content_hash
from pipeline.caption.plan_file import (
    CHUNK,
    chunks,
    commit_file,
    files,
    foreign,
    member_table,
    members_of,
    read_file,
)
from pipeline.errors import TableError
from pipeline.remote import Location

DELETED = -2
"""Stands where the hash of a listed member's content would."""


class Change(NamedTuple):
    """What the log last told of a member."""

    state: str
    """present: listed as `member` tells; deleted: no longer listed; pruned: so is its row."""
    edition: int
    unit: str
    member: Member


@dataclass(frozen=True)
class History:
    """The log in brief."""

    known: dict[bytes, int]
    """`content_hash`, DELETED or PRUNED by digest of (unit, name, occurrence)."""
    editions: dict[str, int]
    """The last edition that speaks of a unit."""
    pruned: Counter[str]
    """Members of a unit whose rows were removed."""

    def state(self, unit: str, member: Member) -> int | None:
        """What is known of a planned member; None if the log does not name it."""
        return self.known.get(key_digest(unit, member.name, member.occurrence))

    def live(self, unit: Unit) -> Unit:
        """The unit without members whose rows were removed."""
        if not self.pruned.get(unit.id):
            return unit
        kept = [member for member in unit.members if self.state(unit.id, member) != PRUNED]
        return Unit(unit.id, unit.source, kept)


class Changes:
    """The log's directory; call `append` under the table's lock only."""

    def __init__(self, directory: Location) -> None:
        self.directory = directory
        self._history: tuple[int, History] | None = None

    def history(self) -> History:
        """The log in brief; read once until it grows."""
        count = len(self.files())
        if self._history is None or self._history[0] != count:
            history = History({}, {}, Counter())
            for change in self._read():
                name, occurrence = change.member.name, change.member.occurrence
                digest = key_digest(change.unit, name, occurrence)
                history.editions[change.unit] = change.edition
                history.known[digest] = {"deleted": DELETED, "pruned": PRUNED}.get(
                    change.state, content_hash(change.member)
                )
                # Nothing follows on a pruned member: its key is planned anew.
                history.pruned[change.unit] += change.state == "pruned"
            self._history = (count, history)
        return self._history[1]

    def of(self, units: Collection[str]) -> dict[str, dict[tuple[str, int], Change]]:
        """The last change of every member that the log names, by unit and (name, occurrence)."""
        found: dict[str, dict[tuple[str, int], Change]] = {}
        for change in self._read() if units else ():
            if change.unit in units:
                key = (change.member.name, change.member.occurrence)
                found.setdefault(change.unit, {})[key] = change
        return found

    def append(self, entries: Sequence[tuple[str, str, Member]]) -> None:
        """Commit one more file of (unit, state, member)."""
        units, states, members = (list(column) for column in zip(*entries, strict=True))
        table = member_table(units, members).append_column("state", pa.array(states, pa.string()))
        commit_file(self.directory, len(self.files()) + 1, table)

    def files(self) -> list[Location]:
        """The log's files, oldest first."""
        return files(self.directory, 1)

    def _read(self) -> Iterator[Change]:
        for edition, path in enumerate(self.files(), 1):
            table = read_file(path)
            if "state" not in table.column_names:
                raise foreign(path)
            units, states = table["unit"].to_pylist(), table["state"].to_pylist()
            for unit, state, member in zip(units, states, members_of(table), strict=True):
                yield Change(state, edition, unit, member)


class Noted(NamedTuple):
    """What a listing found of members that have rows."""

    changed: int
    deleted: int
    back: int
    pruned: int


def check_prune(
    missing: Mapping[str, int], rows: Mapping[str, int], paths: Mapping[str, str]
) -> None:
    """Refuse to remove most of an archive's rows; all by source.

    Raises:
        TableError: a disk may be missing, and the rows took hours to make.
    """
    for source, number in missing.items():
        if 2 * number > rows[source]:
            raise TableError(
                f"--prune would remove {number:,} of the {rows[source]:,} rows of {source}"
                f" ({paths[source]}): is a disk not mounted, or a folder moved? Without --prune"
                " they are marked and stay; --prune-all removes them, however many they are"
            )


def note(
    changes: Changes,
    planned: Iterator[Unit],
    relisted: Relisted,
    done: Collection[str],
    prune: bool,
) -> Noted:
    """Log what the listing of these units' sources found, as far as the log does not tell it yet.

    A kill between two files is mended by the next listing: it finds the rest.
    """
    if not (relisted.changed or relisted.missing):
        return Noted(0, 0, 0, 0)
    counts: Counter[str] = Counter()
    found = _found(changes.history(), planned, relisted, done, prune, counts)
    for entries in chunks(found, CHUNK, lambda entry: entry[2]):
        changes.append(entries)
    return Noted(*(counts[name] for name in Noted._fields))


def _found(
    history: History,
    planned: Iterator[Unit],
    relisted: Relisted,
    done: Collection[str],
    prune: bool,
    counts: Counter[str],
) -> Iterator[tuple[str, str, Member]]:
    """What is to be logged, as (unit, state, member); counted as `Noted` names it."""
    for unit in planned:
        for member in unit.members if unit.id in done else ():
            digest = key_digest(unit.source, member.name, member.occurrence)
            listed = relisted.changed.get(digest)
            state = history.state(unit.id, member)
            if state == PRUNED or (listed is None and digest not in relisted.missing):
                continue
            if listed is not None:
                counts["back" if state == DELETED else "changed"] += 1
                yield unit.id, "present", listed
            elif prune:
                counts["pruned"] += 1
                yield unit.id, "pruned", member
            elif state != DELETED:
                counts["deleted"] += 1
                yield unit.id, "deleted", member
