"""Run by test_killed.py: promotions, approvals and rollbacks in children that die by SIGKILL.

A process of its own, so that the imports are paid once and every child starts clean. Arguments:
a work directory with shards, a fresh registry's file. Prints a JSON line a killed child.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

from small_registry import decided, settings

from pipeline import storage
from pipeline.errors import ModelNotFoundError
from pipeline.promote import approve, audit, rollback
from pipeline.promote.moves import Move, audit_log
from pipeline.records import Decision, ShardSet
from pipeline.tracking import Tracker
from pipeline.tracking.store import installed
from pipeline.tracking.wheel import wheel

PLACES = {
    "register": (Tracker, "register"),
    "attach": (Tracker, "attach"),
    "describe": (Tracker, "describe"),
    "tag": (Tracker, "tag"),
    "tag_version": (Tracker, "tag_version"),
    "tag_model": (Tracker, "tag_model"),
    "pending": (Move, "save"),
    "set_alias": (Tracker, "set_alias"),
    "audit": (audit, "append"),
    "record": (Decision, "save"),
}

TWICE = ("set_alias", "tag_version", "record")
"""Places whose second call is another step."""
AFTER = ("pending", "set_alias", "audit", "record")
"""Places whose end is not the beginning of the next."""


def die_at(place: str, number: int, *, after: bool) -> None:
    """In this process, SIGKILL at the numbered call: before or after it."""
    owner, name = PLACES[place]
    original = getattr(owner, name)
    left = number

    def deadly(*arguments: object, **named: object) -> object:
        nonlocal left
        left -= 1
        if left >= 0:
            return original(*arguments, **named)
        if after:
            original(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, deadly)


def in_child(work: Callable[[], object]) -> bool:
    """Whether the child was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            sys.stderr.flush()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def state(work: Path) -> dict[str, object]:
    """What a finished operation leaves, whichever way it came about."""
    tracker = Tracker(work)
    versions = tracker.versions("captioner")
    entries = audit.read(audit_log(work))
    return {
        "aliases": tracker.aliases("captioner"),
        "events": [(entry.event, entry.version) for entry in entries],
        "promoted": [version.tags.get("captionmill.promoted") for version in versions],
        "taken back": ["captionmill.rolled_back" in version.tags for version in versions],
        "pending": [path.name for path in (work / "promote").glob("pending-*")],
        "evidence": [(one.root / "evidence" / "decision.md").exists() for one in versions],
    }


def operations(work: Path, shard_set: ShardSet) -> dict[str, Callable[[], object]]:
    waiting = settings(require_approval=True)
    return {
        "promote": lambda: decided(work, shard_set, "b", 0.9),
        "wait": lambda: decided(work, shard_set, "b", 0.9, waiting),
        "approve": lambda: approve(work, "captioner", version=2, by="ann", reason="looks good"),
        "rollback": lambda: rollback(work, "captioner", by="ann", reason="wrong colours"),
    }


def prepare(work: Path, operation: str) -> None:
    """The registry before the operation."""
    shard_set = shards(work)
    decided(work, shard_set, "a", 0.5)
    before = {"approve": "wait", "rollback": "promote"}.get(operation)
    if before is not None:
        operations(work, shard_set)[before]()


def main(origin: Path, database: Path) -> None:
    """Every operation, undisturbed once, then killed at every place."""
    for operation in ("promote", "approve", "rollback"):
        start, plain = (origin.with_name(f"{operation} {what}") for what in ("start", "plain"))
        shutil.copytree(origin, start)
        shutil.copy(database, start / "mlflow.db")
        in_child(functools.partial(prepare, start, operation))
        copy(start, plain)
        in_child(functools.partial(run, plain, operation))
        wanted = storage.read_json(plain / "state.json")
        for place, number, after in itertools.product(PLACES, range(2), (False, True)):
            if (number and place not in TWICE) or (after and place not in AFTER):
                continue
            work = origin.with_name("disturbed")
            copy(start, work)
            if in_child(functools.partial(disturbed, work, operation, place, number, after=after)):
                in_child(functools.partial(run, work, operation))
                moment = f"{operation}: {'after' if after else 'before'} {place} {number}"
                found = storage.read_json(work / "state.json")
                print(json.dumps({"moment": moment, "found": found, "wanted": wanted}), flush=True)
            shutil.rmtree(work)


def copy(start: Path, work: Path) -> None:
    shutil.copytree(start, work)
    relocate(start, work)


def disturbed(work: Path, operation: str, place: str, number: int, *, after: bool) -> None:
    """The operation with a SIGKILL on its way, if it gets there."""
    die_at(place, number, after=after)
    operations(work, shards(work))[operation]()


def run(work: Path, operation: str) -> None:
    """The operation to its end; a rollback that was finished has nothing to go back to."""
    try:
        operations(work, shards(work))[operation]()
    except ModelNotFoundError:
        if operation != "rollback":
            raise
    storage.commit_json(work / "state.json", state(work))


def relocate(origin: Path, work: Path) -> None:
    """MLflow keeps absolute places: as if the copy had been made there."""
    with sqlite3.connect(work / "mlflow.db") as database:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("model_versions", "source"),
            ("model_versions", "storage_location"),
        ):
            database.execute(
                f"update {table} set {column} = replace({column}, ?, ?)",
                (origin.as_uri(), work.as_uri()),
            )
    database.close()


def shards(work: Path) -> ShardSet:
    """The shard set in this copy."""
    (manifest,) = work.glob("shard/*/sets/*.json")
    record = ShardSet.load(manifest.parents[1] / "record.json")
    return record.model_copy(update={"manifest": str(manifest)})


if __name__ == "__main__":
    # What libraries import at their first use is thereby paid before the forks.
    installed()
    for module in ("tracking", "model_registry"):
        importlib.import_module(f"mlflow.store.{module}.sqlalchemy_store")
    importlib.import_module("mlflow.pyfunc")
    wheel()
    main(Path(sys.argv[1]), Path(sys.argv[2]))
