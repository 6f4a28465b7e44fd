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

from mlflow import MlflowClient
from small_registry import decided, settings

from pipeline import storage
from pipeline.promote import approve, audit, rollback
from pipeline.promote.keep import taken_back
from pipeline.promote.moves import audit_log
from pipeline.records import ShardSet
from pipeline.tracking import Tracker
from pipeline.tracking.store import installed
from pipeline.tracking.wheel import wheel

WRITES = (
    (storage, "commit"),
    (audit, "append"),
    (Path, "unlink"),
    *(
        (MlflowClient, name)
        for name in (
            "create_run",
            "set_terminated",
            "log_artifact",
            "log_artifacts",
            "create_registered_model",
            "create_model_version",
            "update_model_version",
            "set_model_version_tag",
            "set_registered_model_tag",
            "set_registered_model_alias",
            "delete_registered_model_alias",
        )
    ),
)
"""Everything that changes anything, on disk or in the registry."""


def die_at(number: int, told: Path) -> None:
    """In this process, SIGKILL before the numbered write; `told` says which one it was."""
    left = number

    def deadly(name: str, original: Callable[..., object]) -> Callable[..., object]:
        @functools.wraps(original)
        def write(*arguments: object, **named: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                with open(told, "w") as file:
                    file.write(name)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **named)

        return write

    for owner, name in WRITES:
        setattr(owner, name, deadly(name, getattr(owner, name)))


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
        "taken back": [bool(taken_back(version)) for version in versions],
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
    if operation == "approve":
        operations(work, shard_set)["wait"]()
    if operation == "rollback":  # with two versions to go back to: it must go to one
        decided(work, shard_set, "b", 0.75)
        decided(work, shard_set, "c", 1.0)


def main(origin: Path, database: Path) -> None:
    """Every operation, undisturbed once, then killed before each of its writes."""
    for operation in ("promote", "approve", "rollback"):
        start, plain = (origin.with_name(f"{operation} {what}") for what in ("start", "plain"))
        shutil.copytree(origin, start)
        shutil.copy(database, start / "mlflow.db")
        in_child(functools.partial(prepare, start, operation))
        copy(start, plain)
        in_child(functools.partial(run, plain, operation))
        wanted = storage.read_json(plain / "state.json")
        for number in itertools.count():
            work = origin.with_name("disturbed")
            copy(start, work)
            told = origin.with_name("told")
            killed = in_child(functools.partial(disturbed, work, operation, number, told))
            if killed:
                in_child(functools.partial(run, work, operation))
                moment = f"{operation}: before write {number}, {told.read_text()}"
                found = storage.read_json(work / "state.json")
                print(json.dumps({"moment": moment, "found": found, "wanted": wanted}), flush=True)
            shutil.rmtree(work)
            if not killed:
                break


def copy(start: Path, work: Path) -> None:
    shutil.copytree(start, work)
    relocate(start, work)


def disturbed(work: Path, operation: str, number: int, told: Path) -> None:
    """The operation with a SIGKILL on its way, if it writes so often."""
    die_at(number, told)
    operations(work, shards(work))[operation]()


def run(work: Path, operation: str) -> None:
    """The operation to its end, and what it leaves."""
    operations(work, shards(work))[operation]()
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
