"""Pictures with the bytes of an earlier one: captioned once, and a full row each.

A picture's caption is that of the nearest earlier picture of the same bytes, in the order of
the plan, at most `WINDOW` units back. The rule asks for nothing but the plan and the bytes, so
that the rows do not depend on kills or on who captions what: which pictures share a batch may
move the last bits of a score, and copies are in no batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from pipeline.caption.schema import Row
from pipeline.errors import ArchiveError

WINDOW = 2048
"""Units: what is read of a table before it goes on where it was stopped."""

_WAYS = 8
_SETS = 1 << 17
"""A million pictures in 24 MB, whatever the archive's size."""

_PLACES = 20
"""Bits of a place in its unit; units hold at most 100,000."""

_KEPT = 4
"""Units whose rows stay in memory for copies."""

Place = tuple[str, int]
"""A unit, and a row in it."""


class Finished(Protocol):
    """What earlier units left behind."""

    def digests(self, unit: str) -> Sequence[str | None]:
        """The SHA-256 of each of a unit's pictures; none of a unit that is not finished."""

    def rows(self, unit: str) -> list[Row]:
        """The rows of a finished unit."""


class Digests:
    """The latest place of each SHA-256; of a million, the ones seen longest ago are forgotten.

    Sets of eight, each holding its eight latest: what is in it follows from the order of what
    was put in lately alone, so that one filled from the last units answers as one that saw all.
    """

    def __init__(self, sets: int = _SETS) -> None:
        self._digests = np.zeros((sets, _WAYS, 2), np.uint64)
        self._places = np.full((sets, _WAYS), -1, np.int64)

    def swap(self, sha256: str, place: int) -> int | None:
        """Note that the digest (hexadecimal) is at `place` too; where it was before."""
        digest = np.array([int(sha256[:16], 16), int(sha256[16:32], 16)], np.uint64)
        which = int(digest[0]) % len(self._digests)
        digests, places = self._digests[which], self._places[which]
        ways = np.flatnonzero((digests == digest).all(1) & (places >= 0))
        way = int(ways[0]) if len(ways) else int(places.argmin())
        before = int(places[way]) if len(ways) else None
        digests[way], places[way] = digest, place
        return before


@dataclass
class _Asked:
    """What was answered of a unit, which may be tried again."""

    answers: dict[int, tuple[str, Place | None]] = field(default_factory=dict)
    """By place: the SHA-256 that was asked for, and where it was found."""
    first: dict[str, int] = field(default_factory=dict)


class Copies:
    """Which pictures of a run are copies, asked in the order of the plan; and their rows."""

    def __init__(self, units: Iterable[str] = (), finished: Finished | None = None) -> None:
        """Copies among the units of a plan.

        Args:
            units: all of the plan, in order; in a unit that is not among them, copies are
                looked for in that unit alone.
            finished: what is done of them already.
        """
        self._order: dict[str, int] = {unit: number for number, unit in enumerate(units)}
        self._names = list(self._order)
        self._finished = finished
        self._digests = Digests() if self._order else None
        self._next = 0
        self._asked: dict[str, _Asked] = {}
        self._kept: OrderedDict[str, list[Row]] = OrderedDict()

    def find(self, unit: str, start: int, digests: Sequence[str | None]) -> list[Place | None]:
        """For each picture of a unit from place `start`: where its caption is copied from.

        None for a picture to caption, and for one without a SHA-256.
        """
        asked = self._asked.setdefault(unit, _Asked())
        return [
            self._find(asked, unit, place, digest) if digest else None
            for place, digest in enumerate(digests, start)
        ]

    def _find(self, asked: _Asked, unit: str, place: int, digest: str) -> Place | None:
        if place in asked.answers and asked.answers[place][0] == digest:
            return asked.answers[place][1]
        number = self._order.get(unit)
        if number is None:
            first = asked.first.setdefault(digest, place)
            found = (unit, first) if first < place else None
        else:
            found = self._earlier(number, place, digest)
        asked.answers[place] = (digest, found)
        return found

    def _earlier(self, number: int, place: int, digest: str) -> Place | None:
        assert self._digests is not None
        self._catch_up(number)
        here = number << _PLACES | place
        before = self._digests.swap(digest, here)
        # A later place is known where this picture was read again, and was another before.
        if before is None or before >= here:
            return None
        of, at = before >> _PLACES, before & (1 << _PLACES) - 1
        return (self._names[of], at) if number - of <= WINDOW else None

    def _catch_up(self, number: int) -> None:
        """Note the pictures of the finished units before this one."""
        if number < self._next:
            return
        assert self._digests is not None
        for earlier in range(max(self._next, number - WINDOW), number):
            digests = self._finished.digests(self._names[earlier]) if self._finished else ()
            for place, digest in enumerate(digests):
                if digest is not None:
                    self._digests.swap(digest, earlier << _PLACES | place)
        self._next = number + 1

    def fill(self, unit: str, rows: list[Row], copies: Mapping[int, Place]) -> list[Row]:
        """A unit's rows, with those of its copies completed; the unit is done then.

        Raises:
            ArchiveError: the earlier picture was read again, after a process died, and is another.
        """
        whole = list(rows)
        for place, (source, at) in sorted(copies.items()):
            of = (whole if source == unit else self._rows(source))[at]
            if of.sha256 != whole[place].sha256:
                raise ArchiveError(
                    f"{of.source} changed while it was captioned ({of.member!r});"
                    " run the same command again to go on"
                )
            whole[place] = replace(
                whole[place],
                caption=of.caption,
                score=of.score,
                candidates=of.candidates,
                status=of.status,
                error_code=of.error_code,
                error=of.error,
            )
        self._asked.pop(unit, None)
        self._keep(unit, whole)
        return whole

    def _rows(self, unit: str) -> list[Row]:
        if unit not in self._kept:
            assert self._finished is not None
            self._keep(unit, self._finished.rows(unit))
        self._kept.move_to_end(unit)
        return self._kept[unit]

    def _keep(self, unit: str, rows: list[Row]) -> None:
        self._kept[unit] = rows
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
