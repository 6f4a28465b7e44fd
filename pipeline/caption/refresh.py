"""Stale rows replaced part by part; the old parts are kept, and can be brought back.

TABLE/_previous/_refresh.json         what the refresh is to, and how far it is
TABLE/_previous/<unit>.json           the digest of a part as it was before; committed first
TABLE/_previous/part-<unit>.parquet   the part; committed before it is replaced

The old parts stay after the refresh is whole, until the next one begins.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa
from pydantic import ValidationError

from pipeline import storage
from pipeline.caption.marker import Marker
from pipeline.caption.schema import Row, part_rows, part_table
from pipeline.caption.sealed import Sealed
from pipeline.caption.table import Receipt, Table, read_part
from pipeline.errors import TableError
from pipeline.remote import Location


class RefreshState(Sealed):
    """How far a refresh is."""

    recipe: str
    """Of the rows it makes."""
    model: str
    state: str
    """clearing (an earlier refresh's parts), running, whole, or rolling back."""


class Kept(Sealed):
    """A part as it was before."""

    sha256: str


class Refresh:
    """One refresh of a table to a recipe; under the table's lock only."""

    def __init__(self, table: Table, target: Marker) -> None:
        self.table, self.target = table, target
        self.stale = stale_recipes(table, target)

    def concerns(self, row: Row) -> bool:
        """Whether the row is to be made anew."""
        return row.recipe in self.stale

    def units(self, receipts: Mapping[str, Receipt]) -> set[str]:
        """Units with stale rows whose pictures are there."""
        return {unit for unit, receipt in receipts.items() if stale_rows(receipt, self.stale)}

    def begin(self) -> None:
        """Note what is about to happen; a finished refresh's old parts give way to this one's."""
        state = load_state(self.table)
        finished = state is not None and state.state == "whole"
        other = state is not None and state.recipe != self.target.recipe
        if (finished and other) or (state is not None and state.state == "clearing"):
            self._save("clearing")
            for path in storage.matching(self.table.previous, "part-*.parquet"):
                _drop(self.table, path)
        if state is None or state.state != "running" or other:
            self._save("running")

    def keep(self, unit: str) -> None:
        """Keep the part as it is; the first one that is kept since the beginning stays."""
        path = previous_part(self.table, unit)
        if not path.exists():
            content = self.table.part(unit).read_bytes()
            kept = Kept(sha256=hashlib.sha256(content).hexdigest())
            kept.save(_kept_path(self.table, unit))
            storage.commit(path, content)

    def end(self, receipts: Mapping[str, Receipt]) -> None:
        """Note that the refresh is whole, if it is."""
        state = load_state(self.table)
        if state is not None and state.state == "running" and not self.units(receipts):
            self._save("whole")

    def _save(self, state: str) -> None:
        recipe, model = self.target.recipe, self.target.model.ref
        RefreshState(recipe=recipe, model=model, state=state).save(_state_path(self.table))


def stale_recipes(table: Table, target: Marker) -> set[str]:
    """The recipes of rows that captioning by `target` could make otherwise."""
    return {recipe for recipe, marker in table.markers().items() if marker.is_stale(target)}


def stale_rows(receipt: Receipt, stale: set[str]) -> int:
    """A unit's rows of these recipes whose pictures are in their archives."""
    return sum(receipt.recipes.get(r, 0) - receipt.deleted.get(r, 0) for r in stale)


def previous_part(table: Table, unit: str) -> Location:
    """Where a unit's part is kept."""
    return table.previous / table.part(unit).name


def _kept_path(table: Table, unit: str) -> Location:
    return table.previous / f"{unit}.json"


def read_previous(table: Table, path: Location) -> pa.Table:
    """The rows of a part that is kept.

    Raises:
        TableError: it is damaged, or not the part that was kept.
    """
    content = path.read_bytes()
    try:
        told = Kept.load(_kept_path(table, _unit(path))).sha256
    except FileNotFoundError:
        told = None  # an earlier version kept no digests
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError):
        told = ""
    if told not in (None, hashlib.sha256(content).hexdigest()):
        raise TableError("it is not the part that was kept")
    return read_part(content)


def _unit(path: Location) -> str:
    return path.stem.removeprefix("part-")


def _drop(table: Table, path: Location) -> None:
    # The part last: as long as it is there, it is known that both are to go.
    storage.remove(_kept_path(table, _unit(path)))
    storage.remove(path)


def _state_path(table: Table) -> Location:
    return table.previous / "_refresh.json"


def load_state(table: Table) -> RefreshState | None:
    """How far the table's last refresh is; None if there was none.

    Raises:
        TableError: the file that tells it is damaged.
    """
    path = _state_path(table)
    try:
        return RefreshState.load(path)
    except FileNotFoundError:
        return None
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError):
        raise TableError(
            f"{path} is damaged; delete {table.previous} to go on without the rows it keeps"
        ) from None


def roll_back(table: Table) -> int:
    """Bring back the rows that the last refresh replaced; how many parts were changed.

    A row comes back where its picture is still the one it was made of. Under the table's
    lock only; killed and run again, it goes on.

    Raises:
        TableError: nothing to bring back, or an old part is damaged.
    """
    state = load_state(table)
    if state is None:
        raise TableError(
            f"{table.directory} has no refresh to roll back: {table.previous.name}/ holds no old rows"
        )
    rolling = state.model_copy(update={"state": "rolling back"})
    if state != rolling:
        rolling.save(_state_path(table))
    kept = storage.matching(table.previous, "part-*.parquet")
    for path in kept:
        unit = _unit(path)
        try:
            old = {row.key: row for row in part_rows(read_previous(table, path))}
        except TableError as error:
            raise TableError(
                f"{path}: {error}; delete it to leave its rows as they are, and run again"
            ) from None
        rows = [_earlier(row, old.get(row.key)) for row in part_rows(table.read(unit))]
        receipt = table.load_receipt(unit)
        table.write(unit, part_table(rows), receipt.edition if receipt else 0)
        _drop(table, path)
    return len(kept)


def forget(table: Table) -> None:
    """Note that nothing is left to bring back: the last step of rolling back."""
    for path in storage.matching(table.previous, "*.json"):
        if path != _state_path(table):  # of a part that a killed run did not come to keep
            storage.remove(path)
    storage.remove(_state_path(table))


def _earlier(now: Row, old: Row | None) -> Row:
    if old is None or (old.sha256, old.bytes) != (now.sha256, now.bytes):
        return now
    return replace(old, in_archive=now.in_archive, meta=now.meta)
