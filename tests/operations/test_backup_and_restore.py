"""The commands of docs/operations.md, word for word, on a real stack that is then destroyed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from postgres_cluster import INSTALL, binaries
from running_stack import Stack

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
NAME = "captioner"

pytestmark = pytest.mark.stack


def commands(heading: str) -> str:
    """The first shell block below a heading of docs/operations.md."""
    section = DOCS.read_text(encoding="utf-8").split(f"\n### {heading}\n")[1]
    found = re.search(r"```bash\n(.*?)```", section.split("\n### ")[0], re.DOTALL)
    assert found is not None, heading
    return found[1]


def sh(stack: Stack, script: str, **variables: object) -> None:
    """Run commands of the documentation in the stack's work directory."""
    assert stack.postgres is not None
    ended = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=stack.work,
        env={
            **stack.client(),
            "PATH": f"{stack.postgres.bin}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(stack.ports["postgres"]),
            "PGUSER": "captionmill",
            "PGPASSWORD": stack.secrets["postgres_password"],
            **{key: str(value) for key, value in variables.items()},
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture
def new_stack(tmp_path: Path) -> Iterator[Callable[[str], Stack]]:
    """A function that starts a stack without workers, of a name."""
    if binaries() is None:
        pytest.fail(INSTALL)
    started: list[Stack] = []

    def start(name: str) -> Stack:
        stack = Stack(tmp_path / name)
        started.append(stack)
        stack.up("prefect", "mlflow")
        return stack

    yield start
    for stack in started:
        stack.down()


def captionmill(stack: Stack, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)],
        cwd=stack.work,
        env=stack.client(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def caption(stack: Stack, archive: Path, table: str) -> dict[str, tuple[str, str]]:
    """The captions of an archive by the champion, as (caption, version)."""
    import pyarrow.dataset as ds

    arguments = ("--table", table, "--work", "captionmill-work", "--set", "device=cpu")
    done = captionmill(stack, "caption", archive, *arguments)
    assert done.returncode == 0, done.stderr
    rows = ds.dataset(stack.work / table).to_table().to_pylist()
    assert all(row["status"] == "captioned" for row in rows)
    return {row["member"]: (row["caption"], row["model_version"]) for row in rows}


def register(stack: Stack, directory: Path) -> None:
    """Register twice, as the versions of two trainings would be; the second is champion."""
    program = (
        "import json, sys; from pathlib import Path; from pipeline.tracking import Tracker\n"
        "tracker = Tracker(Path('captionmill-work'))\n"
        "for number in (1, 2):\n"
        "    made = tracker.register(sys.argv[1], Path(f'{sys.argv[2]}-{number}'), None)\n"
        "    tracker.set_alias(sys.argv[1], 'champion', made.version)\n"
        "    tracker.set_alias(sys.argv[1], 'previous', 1)\n"
        "print(json.dumps(tracker.aliases(sys.argv[1])))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, NAME, str(directory)],
        cwd=stack.work,
        env=stack.client(),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"champion": 2, "previous": 1}


def runs(stack: Stack) -> set[str]:
    """Names of the flow runs that Prefect's database knows."""
    assert stack.postgres is not None
    return set(stack.postgres.sql("SELECT name FROM flow_run", "prefect").split())


def test_a_destroyed_stack_comes_back_and_its_champion_captions(
    new_stack: Callable[[str], Stack], tmp_path: Path, save_captioner: Any, picture_folder: Path
) -> None:
    for number in (1, 2):
        words = ["a red square", "a blue circle", "a green star"][: number + 1]
        save_captioner(tmp_path / f"model-{number}", words)
    first = new_stack("first")
    register(first, tmp_path / "model")
    before = caption(first, picture_folder, "captions")
    assert {version for _, version in before.values()} == {"2"}
    assert first.postgres is not None
    flow = "INSERT INTO flow (name) VALUES ('kept') RETURNING id"
    identity = first.postgres.sql(flow, "prefect").splitlines()[0]
    row = f"INSERT INTO flow_run (flow_id, name) VALUES ('{identity}', 'a-run-to-be-kept')"
    first.postgres.sql(row, "prefect")

    backup = tmp_path / "backup"
    sh(first, commands("Back up"), BACKUP=backup)
    # What comes after a backup is lost; the backup itself must not notice it.
    register_after = "DELETE FROM registered_model_aliases"
    first.postgres.sql(register_after, "mlflow")
    first.down()
    shutil.rmtree(first.work)
    shutil.rmtree(first.place, ignore_errors=True)

    second = new_stack("second")
    for name in ("prefect", "mlflow"):
        second.stop(name)
    sh(second, commands("Restore"), BACKUP=backup)
    servers = {**second.environment("mlflow"), **second.environment("prefect")}
    url = servers["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    sh(second, commands("Migrate the databases"), PREFECT_SERVER_DATABASE_CONNECTION_URL=url)
    second.start("prefect", "mlflow")

    assert runs(second) == {"a-run-to-be-kept"}
    assert caption(second, picture_folder, "again") == before
    looked = captionmill(second, "verify", "captions")
    assert looked.returncode == 0, looked.stdout + looked.stderr
    second.start("deploy")
    second.start("worker-cpu")
    told = captionmill(second, "doctor", "--json", "--work", "captionmill-work")
    findings = json.loads(told.stdout)["findings"]
    texts = {each["text"]: each["status"] for each in findings}
    assert texts["captioner: 2 versions, champion -> 2, previous -> 1"] == "ok"
    assert texts["captioner/2 loads, and captions"] == "ok"
    assert texts["files can be written, read and deleted through the server"] == "ok"
    assert texts["deployments: caption, retrain, score, shard"] == "ok"
    pools = {each["subject"]: each["text"] for each in findings if "pool" in each["subject"]}
    assert pools["pool cpu"] == "1 worker online"
    bad = [each["subject"] for each in findings if each["status"] == "wrong"]
    assert bad == ["pool gpu"], findings  # whose worker is not started here
    assert told.returncode == 1
