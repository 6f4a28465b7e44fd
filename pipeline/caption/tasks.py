"""What a worker is given and what it gives back: units with what earlier tries told, and rows."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from pipeline.caption.copies import Place
from pipeline.caption.members import Member
from pipeline.caption.plan import Unit
from pipeline.caption.schema import Row

KILLERS = {
    "decoder_crash": "decoding this picture ended the process, each time it was tried",
    "captioner_crash": "captioning this picture ended the process, each time it was tried",
    "decoder_hang": "reading or decoding this picture did not end, each time it was tried",
    "captioner_hang": "captioning this picture did not end, each time it was tried",
}
"""Why a picture that could be read has no caption, beside the decoder's own codes."""


class Killer(NamedTuple):
    """A picture that is known to end the process that works on it."""

    code: str
    """A key of KILLERS."""
    size: int | None = None
    """Bytes."""
    sha256: str | None = None


class Task(NamedTuple):
    """A unit to caption, and what earlier tries of it have told."""

    unit: Unit
    killers: Mapping[tuple[str, int], Killer] = MappingProxyType({})
    """By (name, occurrence): left out, each a failed row."""
    careful: bool = False
    """One picture at a time, announced before it is touched."""
    alone: frozenset[int] = frozenset()
    """Places at which a batch starts whose pictures are first captioned one by one."""

    def killer(self, member: Member) -> Killer | None:
        """The member, if it is one."""
        return self.killers.get((member.name, member.occurrence))


class Step(NamedTuple):
    """What a careful worker is about to do; if it dies, this is what it died of."""

    kind: str
    """read, decode, batch or alone."""
    place: int
    """Of the member in its unit; of a batch's first member."""
    size: int | None = None
    sha256: str | None = None


class Done(NamedTuple):
    """A captioned unit."""

    unit: Unit
    rows: list[Row]
    copies: dict[int, Place]
    """By place: the rows without a caption of their own, and the (unit, place) it is copied from."""
