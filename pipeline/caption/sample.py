"""A few captions of a table to look at, from a few of its parts: as quick for any size."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.remote import Location

Item = TypeVar("Item")

PARTS = 5
"""Parts that are opened."""


class Sampled(NamedTuple):
    """A captioned picture."""

    member: str
    caption: str
    score: float


def sample(table: Location, number: int = 10) -> list[Sampled]:
    """At most `number` captioned rows, spread over the table, the same ones each time."""
    parts = _spread(storage.matching(table, "part-*.parquet"), PARTS)
    found: list[Sampled] = []
    for place, part in enumerate(parts):
        rows = pq.read_table(
            pa.BufferReader(part.read_bytes()), columns=["member", "caption", "score", "status"]
        )
        rows = rows.filter(pc.equal(rows["status"], "captioned")).drop_columns("status")
        wanted = (number - len(found)) // (len(parts) - place)
        for row in _spread(list(range(len(rows))), wanted):
            found += [Sampled(**one) for one in rows.slice(row, 1).to_pylist()]
    return found


def _spread(items: list[Item], number: int) -> list[Item]:
    """At most `number` of them, evenly."""
    number = min(number, len(items))
    return [items[place * len(items) // number] for place in range(number)]
