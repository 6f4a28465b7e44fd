"""`verify`: re-check everything that a finished table claims, from its files alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator

from pipeline import storage
from pipeline.caption.account import account, main_marker, report_problems
from pipeline.caption.members import key_digest
from pipeline.caption.plan import Unit
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
    problems: list[str] = []
    receipts: dict[str, Receipt] = {}
    seen: set[bytes] = set()
    recipes = table.markers().keys()
    for unit in table.units():
        problems += _check_keys(unit, seen)
        receipt = table.load_receipt(unit.id)
        problems += _check_part(table, unit, receipt, recipes)
        if receipt is not None:
            receipts[unit.id] = receipt
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
    if hashlib.sha256(content).hexdigest() != receipt.sha256:
        yield f"{path.name} is not the file that its receipt tells of (SHA-256 differs)"
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


def strangers(table: Table) -> Iterator[str]:
    """Files that the glob `TABLE/*.parquet` finds, or receipts, of no planned unit."""
    planned = {unit for unit, _, _ in table.plan.unit_rows()}
    for path in storage.matching(table.directory, "*.parquet"):
        if path.name.removeprefix("part-").removesuffix(".parquet") not in planned:
            yield f"{path.name} belongs to no planned unit"
    for path in storage.matching(table.receipts, "*.json"):
        if path.stem not in planned:
            yield f"the receipt {path.name} belongs to no planned unit"
