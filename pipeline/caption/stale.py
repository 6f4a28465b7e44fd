"""Which rows another model or other settings would make otherwise, and what that would take."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.caption.account import last_rate
from pipeline.caption.marker import Marker
from pipeline.caption.table import Table
from pipeline.remote import Location


class Group(NamedTuple):
    """Rows of one recipe."""

    marker: Marker
    rows: int
    """With pictures that are in their archives."""
    deleted: int
    """Without; they cannot be made anew."""
    differences: list[str]
    """What makes them stale; none if they are not."""


class Staleness(NamedTuple):
    """A table beside a model and settings."""

    table: Location
    target: Marker
    groups: list[Group]
    """Most rows first."""
    unfinished: int
    """Planned pictures without a row."""
    rate: float | None
    """Pictures a second of the last run that captioned any."""

    @property
    def rows(self) -> int:
        """Rows that a refresh would make anew."""
        return sum(group.rows for group in self.groups if group.differences)

    @property
    def hours(self) -> float | None:
        """Of a refresh at the last run's rate; None if there is none."""
        return None if self.rate is None else self.rows / self.rate / 3600


def staleness(directory: Location, target: Marker) -> Staleness:
    """How many rows of a table are stale beside `target`; from the receipts alone.

    Raises:
        TableError: not a caption table.
    """
    table = Table(directory)
    table.require()
    rows: dict[str, int] = {}
    deleted: dict[str, int] = {}
    unfinished = 0
    for unit, _, planned in table.unit_rows():
        receipt = table.load_receipt(unit)
        if receipt is None:
            unfinished += planned
            continue
        for recipe, number in receipt.recipes.items():
            gone = receipt.deleted.get(recipe, 0)
            rows[recipe] = rows.get(recipe, 0) + number - gone
            deleted[recipe] = deleted.get(recipe, 0) + gone
    markers = table.markers()
    groups = [
        Group(
            markers[recipe],
            rows[recipe],
            deleted[recipe],
            markers[recipe].differences(target) if markers[recipe].is_stale(target) else [],
        )
        for recipe in sorted(rows, key=lambda recipe: (-rows[recipe], recipe))
    ]
    return Staleness(directory, target, groups, unfinished, last_rate(table))
