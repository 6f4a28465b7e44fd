"""The durable plan: units of consecutive members, in Parquet files that are only ever added.

A rerun lists the archives again and adds units for the keys that the plan does not hold.
Where members lie is noted too, and checked against the new listing, so that an archive
that was rewritten meanwhile is read where its members are now.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Self

from pipeline.caption.archives import Source
from pipeline.caption.members import Member, key_digest
from pipeline.caption.plan_file import (
    CHUNK,
    checked,
    chunks,
    commit_file,
    files,
    member_table,
    members_of,
    read_file,
    read_header,
)
from pipeline.remote import Location

FIRST_UNITS = (32, 64, 128)
"""Sizes of an archive's first units, where others are larger: the first rows come early."""

PRUNED = -1
"""The content of a member whose row was removed; no hash is -1."""

UNLISTED = frozenset({"damaged_archive", "unreadable_directory"})
"""Codes of members that stand for what could not be listed."""


@dataclass(frozen=True)
class Unit:
    """A run of members of one source; its part's name depends on `id` alone."""

    id: str
    """Place in the plan, and a digest of the keys."""
    source: str
    members: list[Member]

    def keys(self) -> list[tuple[str, str, int]]:
        """(source, member, occurrence), in order."""
        return [(self.source, member.name, member.occurrence) for member in self.members]


_SEEN = struct.Struct("<qq??")


class _Seen(NamedTuple):
    """What the table knows of a member; packed, since there may be millions."""

    place: int
    """Hash of where it lay when it was planned."""
    content: int
    """`content_hash` of what its row tells of; that of no member where it was deleted."""
    done: bool
    """It has a row."""
    reading: bool
    """It is to be read in this run."""

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        return cls(*_SEEN.unpack(packed))


@dataclass
class Relisted:
    """How the archives of this run compare with the plan."""

    added: int = 0
    changed: dict[bytes, Member] = field(default_factory=dict)
    """Members with a row whose size or time is another now, or that are back, by key digest."""
    missing: set[bytes] = field(default_factory=set)
    """Members with a row that are gone, by key digest."""
    missing_of: Counter[str] = field(default_factory=Counter)
    """How many they are, by source."""
    unsure: int = 0
    """Members with a row that a damaged archive does not list; it may still hold them."""
    moved: dict[bytes, Member] = field(default_factory=dict)
    """Members to be read in this run that lie elsewhere now, by key digest."""
    gone: set[bytes] = field(default_factory=set)
    """Members to be read in this run that are gone, by key digest."""

    def now(self, source: str, member: Member, gone_code: str) -> Member:
        """A planned member as the archive has it now."""
        if not (self.moved or self.gone):
            return member
        digest = key_digest(source, member.name, member.occurrence)
        if digest in self.gone and member.is_input:
            return Member(member.name, member.occurrence, member.size, code=gone_code)
        return self.moved.get(digest, member)


class Plan:
    """The plan's directory; call `extend` under the table's lock only."""

    def __init__(self, directory: Location) -> None:
        self.directory = directory

    def sources(self) -> dict[str, str]:
        """Source names and the paths they stood for when they were last planned."""
        found = {}
        for path in self._files():
            metadata = read_header(path)
            found[metadata[b"source"].decode()] = metadata[b"path"].decode()
        return found

    def kinds(self) -> dict[str, str]:
        """Source names and the kinds of archive that they are."""
        found = {}
        for path in self._files():
            metadata = read_header(path)
            found[metadata[b"source"].decode()] = metadata[b"kind"].decode()
        return found

    def files(self) -> int:
        """How many files there are."""
        return len(self._files())

    def units(self, only: Collection[str] | None = None) -> Iterator[Unit]:
        """Every unit, or those of them that are wanted, in the order it was planned."""
        for path in self._files():
            table = read_file(path)
            source = checked(path, table.schema.metadata)[b"source"].decode()
            ids = table["unit"].to_pylist()
            start = 0
            for end in range(1, len(ids) + 1):
                if end == len(ids) or ids[end] != ids[start]:
                    if only is None or ids[start] in only:
                        yield Unit(ids[start], source, members_of(table.slice(start, end - start)))
                    start = end

    def unit_rows(self) -> Iterator[tuple[str, str, int]]:
        """(unit, source, members) of every unit, without reading the members."""
        for path in self._files():
            table = read_file(path, ["unit"])
            source = checked(path, table.schema.metadata)[b"source"].decode()
            for counted in table["unit"].value_counts().to_pylist():
                yield counted["values"], source, counted["counts"]

    def extend(
        self,
        source: Source,
        unit_size: int,
        so_far: Relisted,
        *,
        done: Collection[str],
        again: Collection[str] = (),
        history: Mapping[bytes, int] = MappingProxyType({}),
    ) -> None:
        """List `source` again: add units for what is new, note what else differs in `so_far`.

        `done` are the units whose parts exist, `again` those of them that are to be read in
        this run. `history` tells what became of members since they were planned, see
        `Changes.known`. Every file holds whole units and is committed once, so that a plan
        that was cut short continues as if it had not been.
        """
        header = {"source": source.name, "kind": source.archive.kind, "path": source.path}
        known = self._known(source.name, done, again, history)
        # In no later file or run: a plan that was cut short goes on as if it had not been.
        first = () if known else FIRST_UNITS
        listing = _Listing(source, known, so_far)
        ordinal, written = sum(1 for _ in self.unit_rows()), self.files()
        per_file = max(CHUNK // unit_size, 1) * unit_size
        for number, new in enumerate(chunks(listing.new(), per_file, lambda m: m), written):
            ordinal = self.append(number, header, new, unit_size, ordinal, first)
            so_far.added += len(new)
            first = ()
        listing.end()

    def _known(
        self,
        source: str,
        done: Collection[str],
        again: Collection[str],
        history: Mapping[bytes, int],
    ) -> dict[bytes, bytes]:
        known = {}
        for unit in self.units():
            if unit.source != source:
                continue
            has_row = unit.id in done
            reading = not has_row or unit.id in again
            for member in unit.members:
                content = history.get(key_digest(unit.id, member.name, member.occurrence))
                if content == PRUNED:
                    continue
                digest = key_digest(source, member.name, member.occurrence)
                content = content_hash(member) if content is None else content
                known[digest] = _SEEN.pack(_place(member), content, has_row, reading)
        return known

    def append(
        self,
        number: int,
        header: Mapping[str, str],
        members: list[Member],
        unit_size: int,
        ordinal: int,
        first: Iterable[int] = (),
    ) -> int:
        """Commit the next file, of units of `unit_size`; the ordinal of the unit after them.

        `header` tells the archive's `source`, `kind` and `path`; `first` are the sizes of the
        first units, as far as they are smaller.
        """
        units: list[str] = []
        sizes = itertools.chain((s for s in first if s < unit_size), itertools.repeat(unit_size))
        while len(units) < len(members):
            group = members[len(units) : len(units) + next(sizes)]
            units += [_unit_id(ordinal, header["source"], group)] * len(group)
            ordinal += 1
        table = member_table(units, members).replace_schema_metadata(dict(header))
        commit_file(self.directory, number, table)
        return ordinal

    def _files(self) -> list[Location]:
        return files(self.directory, 0)


class _Listing:
    """A source's listing beside what the table knows of it."""

    def __init__(self, source: Source, known: dict[bytes, bytes], so_far: Relisted) -> None:
        """`known` is packed `_Seen` by key digest."""
        self._source, self._known, self._so_far = source, known, so_far
        self._whole = True

    def new(self) -> Iterator[Member]:
        """Members that the table does not know; what else differs is noted."""
        for member in self._source.archive.members():
            self._whole = self._whole and member.code not in UNLISTED
            if not self._known:
                yield member
                continue
            digest = key_digest(self._source.name, member.name, member.occurrence)
            packed = self._known.pop(digest, None)
            if packed is None:
                yield member
                continue
            seen = _Seen.unpack(packed)
            if seen.reading and seen.place != _place(member):
                self._so_far.moved[digest] = member
            if seen.done and seen.content != content_hash(member):
                self._so_far.changed[digest] = member

    def end(self) -> None:
        """Note what was not listed; of a damaged archive nobody knows what it still holds."""
        left = [(digest, _Seen.unpack(packed)) for digest, packed in self._known.items()]
        self._so_far.gone.update(digest for digest, seen in left if seen.reading)
        missing = [digest for digest, seen in left if seen.done]
        if self._whole:
            self._so_far.missing.update(missing)
            self._so_far.missing_of[self._source.name] = len(missing)
        else:
            self._so_far.unsure += len(missing)


def _unit_id(ordinal: int, source: str, members: list[Member]) -> str:
    keys = "".join(f"{len(m.name)}:{m.name}{m.occurrence};" for m in members)
    digest = hashlib.sha256(f"{len(source)}:{source}{keys}".encode())
    return f"{ordinal:07d}-{digest.hexdigest()[:16]}"


def _place(member: Member) -> int:
    return hash((member.offset, member.size, member.reason, member.code, member.sidecars))


def content_hash(member: Member) -> int:
    """Of what a listing tells of a member's content; no sign of its bytes."""
    sidecars = tuple(sidecar.size for sidecar in member.sidecars)
    return hash((member.size, member.modified, sidecars))
