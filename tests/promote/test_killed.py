"""Real SIGKILLs before every write of a promotion, an approval and a rollback; then the same again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kills(
    tmp_path_factory: pytest.TempPathFactory, shards_once: Path, fresh_database: Path
) -> list[dict[str, Any]]:
    origin = tmp_path_factory.mktemp("kills") / "work"
    shutil.copytree(shards_once / "work", origin)
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here.parents[1]), str(here)])
    command = [sys.executable, str(here / "promote_and_kill.py"), str(origin), str(fresh_database)]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("operation", "least"), [("promote", 30), ("approve", 15), ("rollback", 6)]
)
def test_killed_before_any_write_the_same_command_ends_as_if_nothing_had_happened(
    kills: list[dict[str, Any]], operation: str, least: int
) -> None:
    mine = [kill for kill in kills if kill["moment"].startswith(f"{operation}: ")]
    assert len(mine) >= least
    for kill in mine:
        assert kill["found"] == kill["wanted"], kill["moment"]
        assert kill["found"]["pending"] == []


def test_what_is_reached_is_right(kills: list[dict[str, Any]]) -> None:
    wanted = {kill["moment"].split(":")[0]: kill["wanted"] for kill in kills}
    assert wanted["promote"]["aliases"] == {"champion": 2, "previous": 1}
    assert wanted["approve"]["aliases"] == {"champion": 2, "previous": 1}
    assert wanted["approve"]["events"] == [["promoted", 1], ["waiting", 2], ["approved", 2]]
    assert wanted["rollback"]["aliases"] == {"champion": 2, "previous": 1}
    assert wanted["rollback"]["taken back"] == [False, False, True]
