"""Arithmetic of docs/scale.md: what captioning so many pictures takes, from measured rates.

    python tests/benchmarks/scale_plan.py [--pictures 1000000000] [--tables 50] [--unit-size 4096]
                                          [--rate 43.7] [--price 0.085]

`--rate` is pictures a second of one machine, `--price` its dollars an hour; the defaults are two cores
of docs/performance.md (bfloat16 search at 45.8 a second, decoding at 966) and two of the 16 virtual cores
that EC2 lists for $0.68 (c5.4xlarge). What a plan takes on disk
and in memory is measured here and now, with names of two kinds; the rest are figures that the scripts
named beside them printed, and list prices, which are assumptions.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.caption.members import Member
from pipeline.caption.plan import Plan, Relisted

PUT_PRICE, GET_PRICE = 5e-6, 4e-7
"""Dollars a PUT or LIST, and a GET: S3 Standard's list prices in us-east-1, an assumption."""

PUTS, GETS = 2, 2
"""A unit: its part and its receipt, and two looks at what is there (store_requests.py)."""

ROW, RECEIPT = 71, 275
"""Bytes of a row, and of a unit's receipt (scale_simulation.py --unit-size 256)."""

DECISION = 1.83 / 100_001
"""Seconds a finished unit until a run knows what is left (caption_growth.py)."""

COMMIT = 4.5e-3
"""Seconds of a core that a unit of 256 costs the run (scale_simulation.py --unit-size 256)."""

ROUND_TRIP = 0.03
"""Seconds of a request to object storage, an assumption; a unit's commit makes four in a row."""

BLOCK = 1 << 20
"""Bytes of a tar that come with one request."""

SAMPLE = 300_000
"""Members that are planned here."""


def named(kind: str) -> Iterator[Member]:
    for number in range(SAMPLE):
        name = f"{number // 1000:06d}/{number:09d}.jpg"
        if kind == "random":
            name = f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.jpg"
        yield Member(name, size=150_000 + number % 997, offset=150_000 * number)


def plan_once(kind: str) -> None:
    """In a process of its own: bytes on disk, then seconds and megabytes to plan it again."""
    with tempfile.TemporaryDirectory() as work:
        archive: Any = SimpleNamespace(kind="tar", members=lambda: named(kind))
        source: Any = SimpleNamespace(name="a.tar", path="/a.tar", archive=archive)
        plan = Plan(Path(work))
        began = time.process_time()
        plan.extend(source, 4096, Relisted(), done=())
        seconds, before = time.process_time() - began, _peak()
        size = sum(path.stat().st_size for path in Path(work).iterdir())
        done = {unit for unit, _, _ in plan.unit_rows()}
        began = time.process_time()
        plan.extend(source, 4096, Relisted(), done=done)
        again = time.process_time() - began
    per = 1e6 / SAMPLE
    print(
        f"{kind + ' names':<18}{size / SAMPLE:5.1f} B a picture on disk; a million takes"
        f" {seconds * per:.1f} s of CPU to plan, {again * per:.1f} s and"
        f" {(_peak() - before) * per:.0f} MB more to plan again"
    )


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def arithmetic(pictures: int, tables: int, unit_size: int, rate: float, price: float) -> None:
    each = -(-pictures // tables)
    units = -(-each // unit_size) * tables
    per_table = units // tables
    puts, gets = units * PUTS, units * GETS
    commits = 1 / (ROUND_TRIP * (PUTS + GETS))
    machine_hours = pictures / rate / 3600
    for what, value in (
        ("units", f"{units:,} in {tables} tables, {per_table:,} each"),
        (
            "rows on disk",
            f"{pictures * ROW / 1e9:,.0f} GB; {units:,} parts of {unit_size * ROW:,} B",
        ),
        ("receipts", f"{units * RECEIPT / 1e9:,.2f} GB"),
        ("LIST, pictures as objects", f"{pictures // 1000:,}: ${pictures / 1000 * PUT_PRICE:,.0f}"),
        ("GET, pictures as objects", f"{pictures:,}: ${pictures * GET_PRICE:,.0f}"),
        (
            "GET, pictures of 150 kB in tars",
            f"{pictures * 150_000 // BLOCK:,}: ${pictures * 150_000 / BLOCK * GET_PRICE:,.0f}",
        ),
        ("PUT of the tables", f"{puts:,}: ${puts * PUT_PRICE:,.2f}"),
        ("GET of the tables", f"{gets:,}: ${gets * GET_PRICE:,.2f}"),
        ("one table knows what is left", f"after {per_table * DECISION:,.1f} s, on local disk"),
        (
            "the same on object storage",
            f"{per_table:,} GETs, 32 at a time: {per_table / 32 * ROUND_TRIP:,.0f} s",
        ),
        (
            "most that one table takes",
            f"{commits * unit_size:,.0f} pictures/s on object storage ({commits:.1f} commits/s),"
            f" by the run's core {unit_size / (COMMIT * unit_size / 256):,.0f}",
        ),
        ("machines' time", f"{machine_hours:,.0f} h at {rate:g} pictures/s"),
        ("cost of machines", f"${machine_hours * price:,.0f} at ${price:g} an hour"),
        ("cost a million", f"${1e6 / rate / 3600 * price:,.2f}"),
    ):
        print(f"{what:<34}{value}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, default=10**9)
    parser.add_argument("--tables", type=int, default=50)
    parser.add_argument("--unit-size", type=int, default=4096)
    parser.add_argument("--rate", type=float, default=43.7)
    parser.add_argument("--price", type=float, default=0.085)
    parser.add_argument("--plan", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.plan:
        return plan_once(given.plan)
    for kind in ("numbered", "random"):
        subprocess.run([sys.executable, __file__, "--plan", kind], check=True)
    return arithmetic(given.pictures, given.tables, given.unit_size, given.rate, given.price)


if __name__ == "__main__":
    main()
