"""Run by test_killed_updates.py: a table that changes hands, killed at every step of every commit.

For each scenario the same table is taken up again and again by a child process that dies by
SIGKILL just before or just after one rename or removal, then by one that may finish. Prints one
JSON line: kills by scenario, and what came out otherwise than without a kill.
"""

from __future__ import annotations

import functools
import gc
import json
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import torch
from stub_captioner import StubCaptioner

from pipeline.caption import caption, compact, rollback, schema
from pipeline.config import CaptionConfig

CONFIG = CaptionConfig(unit_size=4, batch_size=2)


def version(number: int) -> StubCaptioner:
    return StubCaptioner(
        ref=f"captioner/{number}", model_version=str(number), fingerprint=f"{number}"
    )


def take(
    archive: Path, table: Path, number: int, *, refresh: bool = False, prune: bool = False
) -> None:
    caption(CONFIG, [archive], table, version(number), refresh=refresh, prune=prune)


def child(step: Callable[[], object], before: Callable[[], None] = lambda: None) -> int:
    """Fork and call both in the child; its exit status."""
    pid = os.fork()
    if pid == 0:
        torch.set_num_threads(1)
        os.fsync = lambda descriptor: None  # the machine is not lost with the process
        before()
        code = 1
        try:
            step()
            code = 0
        except Exception:  # noqa: BLE001  told, and the status tells too
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_at(number: int, *, after: bool) -> None:
    """In this process, SIGKILL at the numbered rename or removal: before or after it."""
    left = number

    def deadly(function: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: object, **more: object) -> None:
            nonlocal left
            left -= 1
            if left < 0 and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            function(*arguments, **more)
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        return call

    os.replace, os.unlink = deadly(os.replace), deadly(os.unlink)


def contents(table: Path) -> dict[str, bytes | dict[str, object]]:
    """Every file but locks; of reports what does not differ from run to run."""
    found: dict[str, bytes | dict[str, object]] = {}
    for path in sorted([*table.rglob("*"), *large(table).rglob("*")]):
        name = os.path.relpath(path, table).replace(table.name, "table")
        if path.name == "_report.json":
            report = json.loads(path.read_text())
            same = (
                "discovered",
                "captioned",
                "failed",
                "skipped",
                "deleted",
                "stale",
                "model",
                "recipe",
                "units",
            )
            found[name] = {key: report[key] for key in same}
        elif path.is_file() and path.name != ".lock":
            found[name] = path.read_bytes()
    return found


def large(table: Path) -> Path:
    """Where the table is compacted to."""
    return table.with_name(f"{table.name}-large")


def killed_everywhere(
    base: Path, place: Path, step: Callable[[Path], object]
) -> tuple[int, list[str]]:
    """Kills, and the files that differ from those of a run without one."""
    whole = place / "whole"
    shutil.copytree(base, whole)
    assert child(functools.partial(step, whole)) == 0
    expected = contents(whole)
    kills, wrong = 0, []
    for number in range(1000):
        for after in (False, True):
            table = place / f"{number}-{after}"
            shutil.copytree(base, table)
            status = child(
                functools.partial(step, table), functools.partial(die_at, number, after=after)
            )
            if status == 0:
                return kills, wrong
            assert status == -signal.SIGKILL, status
            kills += 1
            assert child(functools.partial(step, table)) == 0
            found = contents(table)
            different = [n for n in {*found, *expected} if found.get(n) != expected.get(n)]
            wrong += [f"{number} {after}: {name}" for name in different]
            shutil.rmtree(table)
            shutil.rmtree(large(table), ignore_errors=True)
    raise RuntimeError("a run that never ends")


def change(archive: Path) -> None:
    """Change, touch, delete and add pictures."""
    names = sorted(path for path in archive.rglob("*.jpg"))
    names[0].write_bytes(names[1].read_bytes() + b"changed")
    names[4].write_bytes(b"no picture")
    os.utime(names[2], (1, 1))
    names[3].unlink()
    names[8].unlink()
    (archive / "zz.jpg").write_bytes(names[5].read_bytes() + b"new")


def main(archive: Path, place: Path) -> dict[str, tuple[int, list[str]]]:
    tables = {name: place / name for name in ("first", "refreshed", "half")}
    assert child(lambda: take(archive, tables["first"], 1)) == 0
    shutil.copytree(tables["first"], tables["refreshed"])
    assert child(lambda: take(archive, tables["refreshed"], 2, refresh=True)) == 0
    shutil.copytree(tables["first"], tables["half"])
    dying = functools.partial(die_at, 8, after=True)
    assert child(lambda: take(archive, tables["half"], 2, refresh=True), dying) != 0
    change(archive)
    marked = place / "marked"
    shutil.copytree(tables["first"], marked)
    assert child(lambda: take(archive, marked, 1)) == 0

    def run(base: Path, name: str, step: Callable[[Path], object]) -> tuple[int, list[str]]:
        return killed_everywhere(base, place / f"at-{name}", step)

    return {
        "changes": run(tables["first"], "changes", lambda t: take(archive, t, 1)),
        "prune": run(marked, "prune", lambda t: take(archive, t, 1, prune=True)),
        "refresh": run(tables["first"], "refresh", lambda t: take(archive, t, 2, refresh=True)),
        "refresh after a refresh": run(
            tables["refreshed"], "again", lambda t: take(archive, t, 3, refresh=True)
        ),
        "rollback": run(tables["refreshed"], "rollback", rolled_back),
        "rollback half way": run(tables["half"], "half-way", rolled_back),
        "compact": run(marked, "compact", lambda t: compact(t, large(t), 5)),
    }


def rolled_back(table: Path) -> None:
    """Roll back; that nothing is left to bring back is the end of it."""
    from pipeline.errors import TableError

    try:
        rollback(table)
    except TableError as error:
        if "no refresh to roll back" not in str(error):
            raise


if __name__ == "__main__":
    # What libraries import at their first use is thereby paid before the forks.
    schema.part_bytes(schema.part_table([]))
    pa.array(["x"]).to_pylist()
    gc.freeze()  # what is there already is not copied by a child's collections
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]))))
