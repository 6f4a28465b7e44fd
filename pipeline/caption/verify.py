"""`verify`: re-check everything that a finished table claims, from its files alone."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator

from pydantic import ValidationError

from pipeline import storage
from pipeline.caption.account import account, main_marker, report_problems
from pipeline.caption.marker import Format, Origin
from pipeline.caption.members import key_digest
from pipeline.caption.plan import Unit
from pipeline.caption.refresh import load_state, read_previous
from pipeline.caption.table import Receipt, Table, count, part_keys, read_part
from pipeline.errors import TableError
from pipeline.records import TableReport
from pipeline.remote import Location

SHOWN = 10
"""Most problems that an error lists."""


def verify(directory: Location) -> TableReport:
    """Check that every planned unit's part is whole, that no key occurs twice, and the balance.

    Changes nothing. A table that is being written is reported as unfinished.

    Raises:
        TableError: it is not a caption table, or what is wrong with it.
    """
    table = Table(directory)
    table.require()
    problems = list(_check_beside(table))
    receipts: dict[str, Receipt] = {}
    seen: set[bytes] = set()
    recipes = table.markers().keys()
    editions = table.changes.history().editions
    for unit in table.units():
        problems += _check_keys(unit, seen)
        receipt = table.load_receipt(unit.id)
        problems += _check_part(table, unit, receipt, recipes)
        if receipt is not None:
            receipts[unit.id] = receipt
            problems += _check_receipt(receipt, unit.id, editions.get(unit.id, 0))
    problems += strangers(table)
    if problems:
        raise _error(directory, problems)
    report = account(
        table,
        main_marker(table, receipts),
        receipts,
        reused=len(receipts),
        seconds=0.0,
        captioned_now=0,
    )
    problems = report_problems(table, report)
    if problems:
        raise _error(directory, problems)
    return report


def _error(directory: Location, problems: list[str]) -> TableError:
    more = f"\n  and {len(problems) - SHOWN:,} more" if len(problems) > SHOWN else ""
    listed = "\n  ".join(problems[:SHOWN])
    return TableError(
        f"{directory} fails verification ({len(problems):,}"
        f" problem{'s' if len(problems) > 1 else ''}):\n  {listed}{more}\n"
        "delete the files that are named and run `captionmill caption` again:"
        " it makes missing parts and receipts anew"
    )


def _check_keys(unit: Unit, seen: set[bytes]) -> Iterator[str]:
    keys = unit.keys()
    for source, member, occurrence in keys:
        digest = key_digest(source, member, occurrence)
        if digest in seen:
            yield f"the plan holds the key ({source}, {member}, {occurrence}) twice"
        seen.add(digest)


def _check_part(
    table: Table, unit: Unit, receipt: Receipt | None, recipes: Collection[str]
) -> Iterator[str]:
    path = table.part(unit.id)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        yield f"{path.name} is missing ({len(unit.members):,} rows)"
        return
    if receipt is None:
        yield f"{path.name} has no receipt"
        return
    if (hashlib.sha256(content).hexdigest(), len(content)) != (receipt.sha256, receipt.bytes):
        yield f"{path.name} is not the file that its receipt tells of (SHA-256 or size differs)"
        return
    try:
        part = read_part(content)
    except TableError as error:
        yield f"{path.name}: {error}"
        return
    keys = part_keys(part)
    if keys != unit.keys():
        twice = [key for key, n in Counter(keys).items() if n > 1]
        yield (
            f"{path.name} holds {len(keys):,} rows, not the {len(unit.members):,} planned keys"
            + (f"; {twice[0]} occurs twice" if twice else "")
        )
    found = count(part)
    if found != receipt.told():
        yield f"{path.name} counts otherwise than its receipt"
    if unknown := sorted(found["recipes"].keys() - recipes):
        yield f"{path.name} holds rows of an unknown recipe ({', '.join(unknown[:3])})"


def _check_receipt(receipt: Receipt, unit: str, edition: int) -> Iterator[str]:
    """What the part does not tell; a unit behind the log of changes is an unfinished one."""
    if receipt.unit != unit:
        yield f"the receipt {unit}.json tells of another unit"
    if receipt.edition > edition:
        yield (
            f"the receipt {unit}.json follows the log of changes to {receipt.edition}, which"
            f" speaks of the unit up to {edition}"
        )


def _check_beside(table: Table) -> Iterator[str]:
    """Files beside the parts that no other check reads: what a refresh kept, and a copy's origin."""
    try:
        whole = Format.load(table.directory / "_table.json") == Format()
    except ValidationError:
        whole = False
    if not whole:
        yield "_table.json is not as this version writes it"
    try:
        load_state(table)
    except TableError as error:
        yield str(error)
    for path in storage.matching(table.previous, "part-*.parquet"):
        try:
            read_previous(table, path)
        except TableError as error:
            yield f"{table.previous.name}/{path.name}: {error}; without it its rows stay as they are"
    try:
        Origin.load(table.directory / "_compact.json")
    except FileNotFoundError:
        pass
    except (ValidationError, json.JSONDecodeError, UnicodeDecodeError):
        yield "_compact.json is damaged; without it `captionmill compact` cannot be run again"


def strangers(table: Table) -> Iterator[str]:
    """Files that the glob `TABLE/*.parquet` finds, or receipts, of no planned unit."""
    planned = {unit for unit, _, _ in table.plan.unit_rows()}
    for path in storage.matching(table.directory, "*.parquet"):
        if path.name.removeprefix("part-").removesuffix(".parquet") not in planned:
            yield f"{path.name} belongs to no planned unit"
    for path in storage.matching(table.receipts, "*.json"):
        if path.stem not in planned:
            yield f"the receipt {path.name} belongs to no planned unit"
