"""Which rows another model or other settings would make otherwise, and what that would take."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.caption.account import last_rate
from pipeline.caption.marker import Marker
from pipeline.caption.table import Table
from pipeline.errors import TableError
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
        TableError: not a caption table, or rows of a recipe that it does not know.
    """
    table = Table(directory)
    table.require()
    rows: dict[str, int] = {}
    deleted: dict[str, int] = {}
    unfinished = 0
    units = {unit: planned for unit, _, planned in table.unit_rows()}
    receipts = table.load_receipts(units)
    for unit, planned in units.items():
        receipt = receipts.get(unit)
        if receipt is None:
            unfinished += planned
            continue
        for recipe, number in receipt.recipes.items():
            gone = receipt.deleted.get(recipe, 0)
            rows[recipe] = rows.get(recipe, 0) + number - gone
            deleted[recipe] = deleted.get(recipe, 0) + gone
    markers = table.markers()
    if unknown := sorted(rows.keys() - markers.keys()):
        raise TableError(
            f"{directory} holds rows of recipe {unknown[0]}, and {table.recipes} does not say what"
            " that is; put its file back from a copy"
        )
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
