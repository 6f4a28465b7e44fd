"""A table's directory: the marker that makes it ours, parts, receipts and the report.

TABLE/_table.json             model and recipe; committed first
TABLE/_plan/*.parquet         see plan.py
TABLE/part-<unit>.parquet     the rows; `TABLE/*.parquet` is the whole table at any time
TABLE/_receipts/<unit>.json   counts and the part's SHA-256; committed after the part
TABLE/_report.json            the account; committed last
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from pipeline import storage
from pipeline.caption.plan import Plan, Unit
from pipeline.caption.schema import SCHEMA, SCHEMA_VERSION, Row, part_bytes
from pipeline.errors import TableError
from pipeline.records import Record

FORMAT = "captionmill caption table"
FORMAT_VERSION = 1


class Model(Record):
    """The captioner that a table is pinned to."""

    ref: str
    name: str
    version: str
    fingerprint: str


class Marker(Record):
    """What makes a directory a caption table, and what its rows were made with."""

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    schema_version: int = SCHEMA_VERSION
    model: Model
    recipe: str
    """Fingerprint of `settings`."""
    settings: dict[str, Any]
    """Everything that moves a row: decode, transform, search, batch size, numerics."""

    def differences(self, other: Marker) -> list[str]:
        """What differs, as `name: this, not that`; the model's reference does not count."""
        mine, its = ({**m.settings, **_identity(m.model)} for m in (self, other))
        pairs = {key: (mine.get(key), its.get(key)) for key in sorted({*mine, *its})}
        return [f"{key}: {a}, not {b}" for key, (a, b) in pairs.items() if a != b]


def _identity(model: Model) -> dict[str, Any]:
    return {"model": f"{model.name} {model.version} ({model.fingerprint})"}


class Receipt(Record):
    """A finished unit."""

    unit: str
    rows: int
    captioned: int
    failed: dict[str, int]
    skipped: dict[str, int]
    sha256: str
    """Of the part."""
    bytes: int


class Table:
    """Paths and commits below one directory; knows no archive and no model."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plan = Plan(directory / "_plan")
        self.receipts = directory / "_receipts"
        self.report = directory / "_report.json"

    def part(self, unit: str) -> Path:
        """The part of a unit; it exists only whole."""
        return self.directory / f"part-{unit}.parquet"

    def receipt(self, unit: str) -> Path:
        """The receipt of a unit."""
        return self.receipts / f"{unit}.json"

    def marker(self) -> Marker | None:
        """The marker; None for a directory that is absent or empty.

        Raises:
            TableError: the directory holds something else, or a version that is not read.
        """
        path = self.directory / "_table.json"
        try:
            marker = Marker.load(path)
        except FileNotFoundError:
            self._require_empty()
            return None
        except NotADirectoryError:
            raise TableError(f"{self.directory} is a file; --table needs a directory") from None
        except (ValidationError, json.JSONDecodeError, UnicodeDecodeError):
            raise TableError(
                f"{path} is not readable by this version; use another --table directory"
            ) from None
        if (marker.format, marker.format_version) != (FORMAT, FORMAT_VERSION):
            raise TableError(
                f"{self.directory} is a table of format {marker.format_version};"
                f" this version writes {FORMAT_VERSION}; use another --table directory"
            )
        return marker

    def _require_empty(self) -> None:
        if not self.directory.exists():
            return
        # A first run that was killed early leaves its lock and a temporary file.
        ours = (".lock", storage.TEMPORARY)
        foreign = sorted(n for n in os.listdir(self.directory) if not n.startswith(ours))
        if foreign:
            raise TableError(
                f"{self.directory} is not a caption table: it holds {', '.join(foreign[:3])}"
                f"{', ...' if len(foreign) > 3 else ''};"
                " give --table a new or empty directory, or a table made before"
            )

    def check(self, mine: Marker) -> bool:
        """Whether the table exists already; it must then be of this model and recipe.

        Raises:
            TableError: it is not, and what differs.
        """
        found = self.marker()
        if found is None:
            return False
        different = found.differences(mine)
        if different:
            raise TableError(
                f"the rows in {self.directory} were made with {'; '.join(different)};"
                f" use another --table directory, or the same model (--model {found.model.ref})"
                " and settings"
            )
        return True

    def begin(self, mine: Marker) -> None:
        """Commit the marker of a new table, and clear what a killed run left (under the lock)."""
        for directory in (self.directory, self.plan.directory, self.receipts):
            if directory.exists():
                storage.remove_temporaries(directory)
        if not self.check(mine):
            mine.save(self.directory / "_table.json")

    def write(self, unit: Unit, rows: Sequence[Row]) -> Receipt:
        """Commit a unit's part, then its receipt."""
        content = part_bytes(rows)
        storage.commit(self.part(unit.id), content)
        codes = [(row.status, row.error_code) for row in rows]
        return self._acknowledge(unit.id, content, codes)

    def _rebuild(self, unit: Unit) -> Receipt | None:
        """The receipt of a part that has none, if the part is whole and this unit's."""
        try:
            content = self.part(unit.id).read_bytes()
            found = read_part(content)
        except (OSError, TableError):
            return None
        if part_keys(found) != unit.keys():
            return None
        codes = zip(found["status"].to_pylist(), found["error_code"].to_pylist(), strict=True)
        return self._acknowledge(unit.id, content, list(codes))

    def _acknowledge(
        self, unit: str, content: bytes, codes: Sequence[tuple[str, str | None]]
    ) -> Receipt:
        captioned, failed, skipped = count(codes)
        receipt = Receipt(
            unit=unit,
            rows=len(codes),
            captioned=captioned,
            failed=failed,
            skipped=skipped,
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
        )
        receipt.save(self.receipt(unit))
        return receipt

    def load_receipt(self, unit: str) -> Receipt | None:
        """A unit's receipt, if it has one that can be read."""
        try:
            return Receipt.load(self.receipt(unit))
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, ValidationError):
            return None

    def finished(self) -> dict[str, Receipt]:
        """Receipts of the units whose parts are there, by unit; call it under the lock.

        A part is opened only if its receipt is lost; the receipt is then made again. A part
        of another size than its receipt tells is not finished.
        """
        found: dict[str, Receipt] = {}
        orphans: set[str] = set()
        with os.scandir(self.directory) as entries:
            for entry in entries:
                if not entry.name.startswith("part-") or not entry.name.endswith(".parquet"):
                    continue
                unit = entry.name.removeprefix("part-").removesuffix(".parquet")
                receipt = self.load_receipt(unit)
                if receipt is None:
                    orphans.add(unit)
                elif receipt.bytes == entry.stat().st_size:
                    found[unit] = receipt
        for planned in self.plan.units() if orphans else ():
            if planned.id in orphans and (rebuilt := self._rebuild(planned)) is not None:
                found[planned.id] = rebuilt
        return found


def count(
    codes: Sequence[tuple[str, str | None]],
) -> tuple[int, dict[str, int], dict[str, int]]:
    """(status, code) of rows as captioned, failed by code, skipped by reason."""
    of = Counter(codes)
    captioned = sum(n for (status, _), n in of.items() if status == "captioned")
    failed = {
        str(code): n for (status, code), n in sorted(of.items(), key=str) if status == "failed"
    }
    skipped = {
        str(code): n for (status, code), n in sorted(of.items(), key=str) if status == "skipped"
    }
    return captioned, failed, skipped


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
