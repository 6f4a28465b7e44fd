"""SIGKILL at any moment of changes, prune, refresh, rollback and compact: the same bytes in the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, list[str]]]:
    place = tmp_path_factory.mktemp("killed")
    from PIL import Image

    for number in range(10):
        path = place / "photos" / ("", "b")[number % 2] / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20), (number * 20, 90, 255 - number * 20)).save(path)
    script = Path(__file__).parent / "run_and_kill_updates.py"
    done = subprocess.run(
        [sys.executable, str(script), str(place / "photos"), str(place)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, tuple[int, list[str]]] = json.loads(done.stdout)
    return told


def test_every_file_of_the_table_is_that_of_a_run_without_a_kill(
    found: dict[str, tuple[int, list[str]]],
) -> None:
    assert {name: wrong for name, (_, wrong) in found.items() if wrong} == {}


def test_there_was_a_kill_before_and_after_every_commit(
    found: dict[str, tuple[int, list[str]]],
) -> None:
    kills = {name: number for name, (number, _) in found.items()}
    assert min(kills.values()) >= 10, kills
    assert sum(kills.values()) >= 150, kills
