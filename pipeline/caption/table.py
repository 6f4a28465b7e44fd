"""A table's directory: the marker that makes it ours, parts, receipts and the report.

TABLE/_table.json             the directory is ours; committed first
TABLE/_recipes/<recipe>.json  model and settings that rows were made with; before those rows
TABLE/_plan/*.parquet         see plan.py
TABLE/_changes/*.parquet      see changes.py
TABLE/part-<unit>.parquet     the rows; `TABLE/*.parquet` is the whole table at any time
TABLE/_receipts/<unit>.json   counts and the part's SHA-256; committed after the part
TABLE/_previous/              see refresh.py
TABLE/_report.json            the account; committed last
TABLE/_profile.json, .svg     where the time went, if that was asked for

A row stays in the part of the unit that planned it. A part is replaced whole, under its name,
and never removed, so that who reads `TABLE/*.parquet` finds every key, once, at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from pipeline import storage
from pipeline.caption.changes import Changes
from pipeline.caption.marker import FORMAT, FORMAT_VERSION, Format, Marker
from pipeline.caption.plan import Plan, Unit
from pipeline.caption.schema import SCHEMA, part_bytes
from pipeline.errors import TableError
from pipeline.records import Record
from pipeline.remote import Location

WITHDRAWN = -1
"""The size of a part that a receipt no longer speaks of."""


class Receipt(Record):
    """A finished unit."""

    unit: str
    rows: int
    captioned: int
    failed: dict[str, int]
    skipped: dict[str, int]
    recipes: dict[str, int]
    """Rows by recipe."""
    deleted: dict[str, int]
    """Those of them that are no longer in their archive."""
    edition: int
    """Up to which edition the rows follow the log of changes."""
    sha256: str
    """Of the part."""
    bytes: int
    """Of the part; WITHDRAWN while it is being replaced."""

    def told(self) -> dict[str, Any]:
        """What it tells of the rows themselves."""
        return self.model_dump(
            include={"rows", "captioned", "failed", "skipped", "recipes", "deleted"}
        )


class Table:
    """Paths and commits below one directory; knows no archive and no model."""

    def __init__(self, directory: Location) -> None:
        self.directory = directory
        self.plan = Plan(directory / "_plan")
        self.changes = Changes(directory / "_changes")
        self.recipes = directory / "_recipes"
        self.receipts = directory / "_receipts"
        self.previous = directory / "_previous"
        self.report = directory / "_report.json"

    def part(self, unit: str) -> Location:
        """The part of a unit; it exists only whole."""
        return self.directory / f"part-{unit}.parquet"

    def receipt(self, unit: str) -> Location:
        """The receipt of a unit."""
        return self.receipts / f"{unit}.json"

    def exists(self) -> bool:
        """Whether the directory is a caption table; False if it is absent or empty.

        Raises:
            TableError: the directory holds something else, or a version that is not read.
        """
        path = self.directory / "_table.json"
        try:
            found = storage.read_json(path)
        except FileNotFoundError:
            self._require_empty()
            return False
        except NotADirectoryError:
            raise TableError(f"{self.directory} is a file; --table needs a directory") from None
        except (json.JSONDecodeError, UnicodeDecodeError):
            raise self._unreadable(path) from None
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise self._unreadable(path)
        if found.get("format_version") != FORMAT_VERSION:
            raise TableError(
                f"{self.directory} is a table of format {found.get('format_version')};"
                f" this version writes {FORMAT_VERSION}; use another --table directory"
            )
        return True

    def require(self) -> None:
        """Nothing, where the directory is a caption table.

        Raises:
            TableError: it is not.
        """
        where, is_none = self.directory, f"{self.directory} is not a caption table"
        if isinstance(where, Path) and where.is_file():
            raise TableError(f"{is_none} but a file; give the directory that holds _table.json")
        inside = sorted(storage.contents(where))
        if not inside:
            nothing = "it is empty" if where.exists() else "there is nothing of that name"
            raise TableError(
                f"{is_none}: {nothing}; `captionmill caption ARCHIVE... --table {where}` makes one"
            )
        if "_table.json" in inside:
            self.exists()
            return
        told = f"it holds {', '.join(inside[:3])}{', ...' if len(inside) > 3 else ''}"
        within = [name for name in inside[:100] if (where / name / "_table.json").exists()]
        hint = (
            f"give {where / within[0]}" if within else "give the directory that holds _table.json"
        )
        raise TableError(f"{is_none}: {told}; {hint}")

    def _unreadable(self, path: Location) -> TableError:
        return TableError(f"{path} is not readable by this version; use another --table directory")

    def _require_empty(self) -> None:
        if not self.directory.exists():
            return
        # A first run that was killed early leaves its lock and a temporary file.
        ours = (".lock", storage.TEMPORARY)
        foreign = sorted(n for n in storage.contents(self.directory) if not n.startswith(ours))
        if foreign:
            raise TableError(
                f"{self.directory} is not a caption table: it holds {', '.join(foreign[:3])}"
                f"{', ...' if len(foreign) > 3 else ''};"
                " give --table a new or empty directory, or a table made before"
            )

    def markers(self) -> dict[str, Marker]:
        """What rows of this table were made with, by recipe.

        Raises:
            TableError: a file of `_recipes/` is damaged.
        """
        found = {}
        for path in storage.matching(self.recipes, "*.json"):
            try:
                found[path.stem] = Marker.load(path)
            except (ValidationError, json.JSONDecodeError, UnicodeDecodeError):
                raise TableError(
                    f"{path} is damaged: rows of this recipe could not be told from others;"
                    " put it back from a copy, or caption into another --table directory"
                ) from None
        return found

    def begin(self, mine: Marker) -> None:
        """Commit the markers of a table, and clear what a killed run left (under the lock)."""
        self.clear()
        if not self.exists():
            Format().save(self.directory / "_table.json")
        if mine.recipe not in self.markers():
            mine.save(self.recipes / f"{mine.recipe}.json")

    def clear(self) -> None:
        """Remove what killed commits left (under the lock)."""
        kinds = (self.plan.directory, self.changes.directory, self.recipes, self.receipts)
        for directory in (self.directory, self.previous, *kinds):
            if directory.exists():
                storage.remove_temporaries(directory)

    def units(self, only: Collection[str] | None = None) -> Iterator[Unit]:
        """Planned units (all, or those wanted), without members whose rows were removed since."""
        history = self.changes.history()
        return (history.live(unit) for unit in self.plan.units(only))

    def unit_rows(self) -> Iterator[tuple[str, str, int]]:
        """(unit, source, rows) of every planned unit."""
        pruned = self.changes.history().pruned
        for unit, source, members in self.plan.unit_rows():
            yield unit, source, members - pruned[unit]

    def read(self, unit: str) -> pa.Table:
        """The rows of a unit's part.

        Raises:
            TableError: the part is missing or damaged.
        """
        path = self.part(unit)
        try:
            return read_part(path.read_bytes())
        except FileNotFoundError:
            raise TableError(f"{path} is missing; `captionmill verify` says what else") from None
        except TableError as error:
            raise TableError(
                f"{path}: {error}; delete it and run `captionmill caption` again"
            ) from None

    def write(self, unit: str, part: pa.Table, edition: int = 0) -> Receipt:
        """Commit a unit's part, in place of the one that may be there, then its receipt."""
        content = part_bytes(part)
        path, told = self.part(unit), self.load_receipt(unit)
        if dict(storage.read_many(self.directory, [path.name])) != {path.name: content}:
            # A receipt must not speak of a part that follows the one it was made for, and the
            # two could be of one size.
            if told is not None and told.bytes != WITHDRAWN:
                told = told.model_copy(update={"bytes": WITHDRAWN})
                told.save(self.receipt(unit))
            storage.commit(path, content)
        return self._acknowledge(unit, content, part, edition, told)

    def _rebuild(self, unit: Unit, edition: int) -> Receipt | None:
        """The receipt of a part that has none, if the part is whole and this unit's."""
        try:
            content = self.part(unit.id).read_bytes()
            found = read_part(content)
        except (OSError, TableError):
            return None
        # Rows that are to be removed may be there still.
        keys = part_keys(found)
        planned, have = unit.keys(), set(keys)
        live = set(self.changes.history().live(unit).keys())
        if not live <= have or keys != [key for key in planned if key in have]:
            return None
        return self._acknowledge(unit.id, content, found, edition, self.load_receipt(unit.id))

    def _acknowledge(
        self, unit: str, content: bytes, part: pa.Table, edition: int, told: Receipt | None
    ) -> Receipt:
        """Commit the receipt of a part, unless that is what the unit's receipt tells."""
        receipt = Receipt(
            unit=unit,
            **count(part),
            edition=edition,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
        )
        if told != receipt:
            receipt.save(self.receipt(unit))
        return receipt

    def load_receipt(self, unit: str) -> Receipt | None:
        """A unit's receipt, if it has one that can be read."""
        try:
            return Receipt.load(self.receipt(unit))
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, ValidationError):
            return None

    def load_receipts(self, units: Iterable[str]) -> dict[str, Receipt]:
        """The receipts of these units that there are and that can be read."""
        found = {}
        for name, content in storage.read_many(self.receipts, (f"{unit}.json" for unit in units)):
            with contextlib.suppress(ValueError):
                found[name.removesuffix(".json")] = Receipt.model_validate_json(content)
        return found

    def finished(self) -> dict[str, Receipt]:
        """Receipts of the units whose parts are there, by unit; call it under the lock.

        A part is opened only if its receipt is lost or withdrawn; the receipt is then made
        again. A part of another size than its receipt tells is not finished.
        """
        found: dict[str, Receipt] = {}
        orphans: dict[str, int] = {}
        sizes = {
            name.removeprefix("part-").removesuffix(".parquet"): size
            for name, size in storage.names(self.directory)
            if name.startswith("part-") and name.endswith(".parquet")
        }
        told = self.load_receipts(sizes)
        for unit, size in sizes.items():
            receipt = told.get(unit)
            if receipt is None or receipt.bytes == WITHDRAWN:
                orphans[unit] = receipt.edition if receipt else 0
            elif receipt.bytes == size:
                found[unit] = receipt
        for planned in self.plan.units(orphans) if orphans else ():
            rebuilt = self._rebuild(planned, orphans[planned.id])
            if rebuilt is not None:
                found[planned.id] = rebuilt
        return found

    def pending(self, receipts: Mapping[str, Receipt]) -> set[str]:
        """Finished units whose rows do not follow the log of changes to its end."""
        editions = self.changes.history().editions
        return {
            unit
            for unit, edition in editions.items()
            if unit in receipts and receipts[unit].edition < edition
        }


def count(part: pa.Table) -> dict[str, Any]:
    """How many rows there are, by status and code, and by recipe; as a receipt tells it."""
    columns = ("status", "error_code", "recipe", "in_archive")
    of = Counter(zip(*(part[name].to_pylist() for name in columns), strict=True))
    by: dict[str, Counter[str]] = {
        n: Counter() for n in ("failed", "skipped", "recipes", "deleted")
    }
    captioned = 0
    for (status, code, recipe, in_archive), rows in of.items():
        if status == "captioned":
            captioned += rows
        else:
            by[status][str(code)] += rows
        by["recipes"][recipe] += rows
        if not in_archive:
            by["deleted"][recipe] += rows
    told = {name: dict(sorted(numbers.items())) for name, numbers in by.items()}
    return {"rows": part.num_rows, "captioned": captioned, **told}


def read_part(content: bytes) -> pa.Table:
    """A part's rows, its pages' check sums verified.

    Raises:
        TableError: not Parquet, damaged, or of other columns.
    """
    try:
        found = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
    except (OSError, pa.ArrowException):
        raise TableError("it cannot be read as Parquet") from None
    if not found.schema.equals(SCHEMA):
        raise TableError("its columns are not those of a caption table")
    return found


def part_keys(part: pa.Table) -> list[tuple[str, str, int]]:
    """The keys of a part's rows, in order."""
    columns = (part[name].to_pylist() for name in ("source", "member", "occurrence"))
    return list(zip(*columns, strict=True))
