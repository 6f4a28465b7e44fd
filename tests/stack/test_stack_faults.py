"""Faults of a running stack: each ends with a correct champion and table, and nothing done twice."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_project import GPU_WORKER, Project
from running_stack import Stack

from pipeline.caption.verify import verify

pytestmark = pytest.mark.stack

LONG = ["train.epochs=30", "train.checkpoint_seconds=0.5"]
"""A training that is still going on when something happens to it."""


@pytest.fixture(autouse=True)
def champion(project: Project) -> int:
    """There is one before anything happens."""
    if not project.audit():
        project.completed(project.retrain())
    return project.champion()


@pytest.fixture
def training(project: Project) -> Iterator[Any]:
    """A function that triggers a training of its own; (flow run, directory) when it has a checkpoint."""

    def begin(seed: int) -> tuple[str, Path]:
        known = set(project.trainings())
        run = project.retrain(*LONG, f"train.seed={seed}", cause=f"fault {seed}")

        def begun() -> Path | None:
            new = [path for name, path in project.trainings().items() if name not in known]
            return next((p for p in new if any(p.glob("checkpoints/0*/training.json"))), None)

        return run, project.until(begun, "a checkpoint")

    return begin


def step(directory: Path) -> int:
    """The newest checkpoint's."""
    return max((int(p.name) for p in (directory / "checkpoints").glob("0*")), default=0)


def ended_well(project: Project, directory: Path) -> None:
    """The training is whole and in the registry once, and one decision was made about it."""
    record = json.loads((directory / "record.json").read_text())
    registry = project.registry()
    versions = registry.search_model_versions("name = 'captioner'")
    (version,) = (v for v in versions if v.run_id == record["run_id"])
    decided = [line for line in project.audit() if line["version"] == int(version.version)]
    assert [line["event"] for line in decided] in (["promoted"], ["refused"])
    right = (
        version.version if decided[0]["event"] == "promoted" else decided[0]["before"]["champion"]
    )
    assert project.champion() == int(right)
    for name in ("loss", "val_cider", "epoch_loss"):
        steps = [metric.step for metric in registry.get_metric_history(record["run_id"], name)]
        assert steps == sorted(set(steps)), f"{name} was logged twice"
    assert len(registry.get_metric_history(record["run_id"], "val_cider")) == 30
    assert not list(Path(project.work / "promote").glob("pending-*"))


def attempts(project: Project, run: str, task: str) -> int:
    """How often a stage was started in a flow run, over all of its processes."""
    return sum(each["run_count"] for each in project.api.tasks(run).get(task, []))


def test_a_worker_killed_in_training(project: Project, stack: Stack, training: Any) -> None:
    run, directory = training(1)
    reached = step(directory)
    stack.kill(GPU_WORKER)
    assert project.api.run(run)["state_type"] == "RUNNING", "a dead worker tells nobody"
    stack.start(GPU_WORKER)
    project.completed(run)
    resumed = re.findall(r"resuming at step (\d+)", stack.log(GPU_WORKER).read_text())
    assert int(resumed[-1]) >= reached, "from its last checkpoint"
    ended_well(project, directory)


def test_a_worker_killed_in_bulk_captioning(project: Project, stack: Stack) -> None:
    table = stack.work / "killed table"
    run = project.caption("caption.unit_size=4", table=str(table))
    project.until(lambda: len(list(table.glob("_receipts/*"))) > 3, "receipts")
    stack.kill(GPU_WORKER)
    done = {path: path.stat().st_mtime_ns for path in table.glob("part-*.parquet")}
    receipts = len(list(table.glob("_receipts/*")))
    assert receipts < 75, "killed amid it"
    stack.start(GPU_WORKER)
    project.completed(run)
    report = verify(table)
    assert report.units_reused == report.units
    # A part without its receipt is written again, which the kill may have left one of.
    again = [path for path, time in done.items() if path.stat().st_mtime_ns != time]
    assert len(again) <= 1
    plain = project.completed(
        project.caption("caption.unit_size=4", table=str(stack.work / "plain"))
    )
    assert plain["state_type"] == "COMPLETED"
    for part in sorted((stack.work / "plain").glob("part-*.parquet")):
        assert (table / part.name).read_bytes() == part.read_bytes()


def test_prefects_server_restarted_in_training(
    project: Project, stack: Stack, training: Any
) -> None:
    run, directory = training(3)
    stack.kill("prefect")
    # Away until training has ended, so that the run has to wait for the server.
    project.until((directory / "record.json").exists, "the training's end")
    stack.start("prefect")
    project.completed(run)
    assert attempts(project, run, "train-captioner") == 1
    ended_well(project, directory)


def test_postgresql_restarted_in_training(project: Project, stack: Stack, training: Any) -> None:
    run, directory = training(4)
    assert stack.postgres is not None
    stack.postgres.stop()
    reached = step(directory)
    project.until(lambda: step(directory) > reached or not step(directory), "training going on")
    stack.postgres.start()
    project.completed(run)
    ended_well(project, directory)


def test_mlflow_away_while_training(project: Project, stack: Stack, training: Any) -> None:
    run, directory = training(5)
    said = len(stack.log(GPU_WORKER).read_text())
    stack.kill("mlflow")
    away = time.monotonic()

    def waits() -> bool:
        return "metrics are kept and delivered later" in stack.log(GPU_WORKER).read_text()[said:]

    project.until(waits, "training without MLflow")
    project.until(lambda: time.monotonic() - away > 60, "a minute", 70)
    stack.start("mlflow")
    project.completed(run)
    assert attempts(project, run, "train-captioner") == 1
    ended_well(project, directory)


def test_mlflow_away_at_promotion(project: Project, stack: Stack, training: Any) -> None:
    run, directory = training(6)
    known = set((project.work / "score").glob("*/record.json"))
    project.until(
        lambda: set((project.work / "score").glob("*/record.json")) - known, "a score card"
    )
    stack.kill("mlflow")
    away = time.monotonic()
    project.until(lambda: time.monotonic() - away > 60, "a minute", 70)
    assert project.api.run(run)["state_type"] == "RUNNING"
    stack.start("mlflow")
    project.completed(run)
    assert attempts(project, run, "score-captioner") == 1
    ended_well(project, directory)


@pytest.fixture
def small_disk(stack: Stack) -> Iterator[Path]:
    """A file system of a few megabytes in the stack's work directory."""
    disk = stack.work / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_the_disk_filling_up(project: Project, small_disk: Path) -> None:
    # A registered model of its own: the other's evaluation set lies in the other work directory.
    settings = {"work": str(small_disk / "work"), "cause": "small disk"}
    overrides = [*LONG, "train.seed=8", "promote.name=small"]
    run = project.api.ended(project.retrain(*overrides, **settings))
    assert run["state_type"] == "FAILED"
    assert "No space left on device" in run["state"]["message"]
    audit = small_disk / "work" / "promote" / "audit.jsonl"
    assert not audit.exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    project.completed(project.retrain(*overrides, **settings))
    (line,) = audit.read_text().splitlines()
    assert json.loads(line)["event"] == "promoted"
    aliases = project.registry().get_registered_model("small").aliases
    assert {name: int(number) for name, number in aliases.items()} == {"champion": 1}
    assert len(list((small_disk / "work" / "train").glob("*"))) == 1


def test_two_retrainings_at_once(project: Project) -> None:
    overrides = [*LONG, "train.seed=7"]
    first, second = (project.retrain(*overrides, cause=f"both {n}") for n in (1, 2))
    before = set(project.trainings())
    for run in (first, second):
        project.completed(run)
    (new,) = set(project.trainings()) - before
    ended_well(project, project.trainings()[new])


def test_prefects_database_lost(project: Project, stack: Stack, champion: int) -> None:
    assert stack.postgres is not None
    database = stack.services["postgres"].environment["POSTGRES_DB"]
    for name in (GPU_WORKER, "worker-cpu", "watch", "prefect"):
        stack.stop(name)
    stack.postgres.sql(f"DROP DATABASE {database} WITH (FORCE)")
    stack.postgres.sql(f"CREATE DATABASE {database}")
    stack.start("prefect")
    stack.start("deploy")
    stack.start("watch")
    stack.start("worker-cpu")
    stack.start(GPU_WORKER)
    events = len(project.audit())
    models = {p: p.stat().st_mtime_ns for p in project.work.rglob("model.safetensors")}
    project.completed(project.retrain())
    project.completed(project.caption(table=str(stack.work / "captions")))
    assert {p: p.stat().st_mtime_ns for p in models} == models, "recognised by the files on disk"
    assert len(project.audit()) == events
    assert project.champion() == champion
    verify(stack.work / "captions")
