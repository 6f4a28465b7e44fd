"""Drives the real plan, receipts, attempts and commits over many units, and loses workers on the way.

    python tests/benchmarks/scale_simulation.py [WORK] [--units 100000] [--kills 4] [--seed 0]

A cluster is simulated (`simulated_cluster.py`): its workers die, its nodes vanish, some units take
a hundred times as long, some pictures end every process that touches them. The run itself is real,
and is killed by SIGKILL as often as told, at random units. Then every part is read: each picture
must be there once, with the caption of its bytes; and `verify` must agree. Prints what it took, and
ends with 1 if anything is lost, doubled or wrong. The table stays in WORK, if that is given.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

import pyarrow.parquet as pq
from simulated_cluster import Cluster, Weather, caption_of, is_deadly, sha256_of

import pipeline.caption as stage
from pipeline.caption.members import Archive, Member
from pipeline.caption.table import Table
from pipeline.caption.updates import Updates
from pipeline.config import CaptionConfig
from pipeline.errors import ImageError

EVERY = 20
"""Units between two words of a run to whoever may kill it."""


def names(pictures: int) -> Iterator[str]:
    return (f"{number // 1000:06d}/{number:09d}.jpg" for number in range(pictures))


class Listed(Archive):
    """A tar of so many pictures, as far as the plan can tell."""

    kind = "tar"

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures

    def members(self) -> Iterator[Member]:
        for number, name in enumerate(names(self.pictures)):
            yield Member(name, size=1000, offset=1536 * number)

    def read(self, member: Member, most: int) -> bytes:
        raise ImageError(self.gone, "nothing is there to read")


def run(table: Path, pictures: int, unit_size: int, seed: int) -> None:
    """One run in this process; tells of its progress in lines of JSON."""
    began = time.perf_counter()
    cluster = Cluster(Weather(), seed)
    told: dict[str, Any] = {"units": 0}

    def tell(**more: Any) -> None:
        told.update(more, seconds=time.perf_counter() - began, counts=cluster.counts)
        told.update(cpu=time.process_time())
        told.update(simulated_hours=cluster.now / 3600, peak_mb=_peak())
        print(json.dumps(told), flush=True)

    finish = Updates.finish

    def finished(self: Updates, *arguments: Any) -> None:
        finish(self, *arguments)
        told["units"] += 1
        if told["units"] == 1:
            tell(first=time.perf_counter() - began, first_cpu=time.process_time())
        elif told["units"] % EVERY == 0:
            tell()

    archive = {Path("pictures.tar"): Listed(pictures)}
    with (
        mock.patch.object(stage, "engine", lambda config, captioner: captioner),
        mock.patch.object(stage, "open_archives", lambda *_, **__: archive),
        mock.patch.object(Updates, "finish", finished),
    ):
        config = CaptionConfig(unit_size=unit_size)
        report = stage.caption(config, [Path("pictures.tar")], table, cluster)  # type: ignore[arg-type]
    tell(report=report.model_dump(), whole=True)


def check(table: Path, pictures: int) -> None:
    """Every picture once, with its caption: read from the parts alone."""
    began = time.perf_counter()
    rows: Counter[str] = Counter()
    wrong = 0
    columns = ["member", "sha256", "caption", "status", "error_code"]
    for path in sorted(table.glob("*.parquet")):
        for row in pq.ParquetFile(path).read(columns).to_pylist():
            rows[row["member"]] += 1
            name, deadly = row["member"], is_deadly(row["member"])
            right = (
                sha256_of(name),
                None if deadly else caption_of(name),
                "failed" if deadly else "captioned",
                "decoder_crash" if deadly else None,
            )
            found = tuple(row[column] for column in columns[1:])
            wrong += found != right
    found = {
        "lost": sum(name not in rows for name in names(pictures)),
        "doubled": sum(number > 1 for number in rows.values()),
        "strange": len(rows) - sum(name in rows for name in names(pictures)),
        "wrong": wrong,
        "attempts_left": len(list(table.glob("_attempts/*"))),
    }
    print(json.dumps({**found, **_took(began)}))


def verify(table: Path) -> None:
    began = time.perf_counter()
    report = stage.verify(table)
    print(json.dumps({"rows": report.discovered, **_took(began)}))


def decide(table: Path) -> None:
    """What a run does to know what is left, and what lies on disk."""
    kept, began = Table(table), time.perf_counter()
    receipts = kept.finished()
    left = sum(unit not in receipts for unit, _, _ in kept.plan.unit_rows())
    took = _took(began)
    sizes = {
        what: sum(path.stat().st_size for path in table.glob(pattern))
        for what, pattern in (
            ("parts", "*.parquet"),
            ("receipts", "_receipts/*"),
            ("plan", "_plan/*"),
        )
    }
    print(json.dumps({"left": left, **took, "bytes": sizes}))


def _took(began: float) -> dict[str, float]:
    """Seconds since then, and of CPU and megabytes of this process in all."""
    seconds = time.perf_counter() - began
    return {"seconds": round(seconds, 2), "cpu": round(time.process_time(), 2), "peak_mb": _peak()}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def apart(*words: object) -> subprocess.Popen[str]:
    """A function of this module in a process of its own, for its own peak of memory."""
    command = [sys.executable, __file__, "--apart", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told_by(*words: object) -> dict[str, Any]:
    out, err = (process := apart(*words)).communicate()
    if process.returncode:
        sys.exit(f"{words[0]} failed:\n{err}")
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def killed_run(words: list[object], after: int | None) -> dict[str, Any]:
    """A run that is killed after so many units, if it gets that far; what it last told."""
    process, last = apart(*words), dict[str, Any]()
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        last = json.loads(line)
        if after is not None and last["units"] >= after:
            os.kill(process.pid, signal.SIGKILL)
            break
    errors = process.stderr.read()
    process.wait()
    if not last.get("whole") and process.returncode != -signal.SIGKILL:
        sys.exit(f"a run failed:\n{errors}")
    return last


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path, nargs="?")
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--unit-size", type=int, default=2, help="pictures a unit")
    parser.add_argument("--kills", type=int, default=4, help="of the run, by SIGKILL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--apart", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        work = given.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        simulate(work / "table", given.units, given.unit_size, given.kills, given.seed)


def simulate(table: Path, units: int, unit_size: int, kills: int, seed: int) -> None:
    pictures, moments = units * unit_size, random.Random(seed)
    print(f"{units:,} units of {unit_size} pictures; {kills} kills of the run", flush=True)
    counts: Counter[str] = Counter()
    last: dict[str, Any] = {}
    number = 0
    while not last.get("whole"):
        after = moments.randrange(1, max(units // (kills + 1), 2)) if number < kills else None
        words = ["run", table, pictures, unit_size, seed + number]
        last, number = killed_run(words, after), number + 1
        for name, count in last["counts"].items():
            counts[name] = max(counts[name], count) if "most" in name else counts[name] + count
        first, cpu = last.get("first", last["seconds"]), last.get("first_cpu", last["cpu"])
        rate = max(last["units"] - 1, 0) / max(last["seconds"] - first, 1e-9)
        each = (last["cpu"] - cpu) / max(last["units"] - 1, 1) * 1e3
        print(
            f"run {number}: {last['units']:,} units, the first after {first:.1f} s ({cpu:.1f} of CPU),"
            f" then {rate:,.0f} a second ({each:.1f} ms of CPU each); peak {last['peak_mb']:,} MB;"
            f" {'whole' if last.get('whole') else 'killed'}",
            flush=True,
        )
    print(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())))
    found = {what: told_by(what, table, pictures) for what in ("decide", "check", "verify")}
    for what, text in (
        ("decide", "what is left of the whole table"),
        ("check", "read from the parts"),
        ("verify", "verify"),
    ):
        told = found[what]
        took = [told.pop(name) for name in ("seconds", "cpu", "peak_mb")]
        print(f"{text}: {told}, {took[0]:.1f} s ({took[1]:.1f} of CPU), {took[2]:,} MB")
    checked = found["check"]
    report = last["report"]
    bad = any(checked[what] for what in ("lost", "doubled", "strange", "wrong", "attempts_left"))
    if (
        bad
        or found["decide"]["left"]
        or found["verify"]["rows"] != pictures
        or report["discovered"] != pictures
    ):
        sys.exit("something is lost, doubled or wrong")
    print("nothing is lost, doubled or wrong")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--apart"]:
        what, path, *rest = sys.argv[2:]
        if what == "run":
            run(Path(path), *map(int, rest))
        else:
            {"check": check, "verify": lambda t, _: verify(t), "decide": lambda t, _: decide(t)}[
                what
            ](Path(path), int(rest[0]))
    else:
        main()
