"""SIGKILL at any moment: the finished table is that of an uninterrupted run, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import caption, verify
from pipeline.config import CaptionConfig

Parts = Callable[[Path], dict[str, bytes]]


def run(how: str, archive: Path, table: Path) -> dict[str, int]:
    script = Path(__file__).parent / "run_and_kill.py"
    done = subprocess.run(
        [sys.executable, str(script), how, str(archive), str(table)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


CONFIG = CaptionConfig(unit_size=5, batch_size=3)


@pytest.fixture
def whole(folder: Path, tmp_path: Path, stub: Any, parts: Parts) -> dict[str, bytes]:
    caption(CONFIG, [folder], tmp_path / "whole", stub())
    return parts(tmp_path / "whole")


def test_killed_at_every_commit_before_and_after_its_rename(
    folder: Path, tmp_path: Path, whole: dict[str, bytes], parts: Parts
) -> None:
    found = run("commits", folder, tmp_path / "tables")
    # Marker, recipe, plan, two parts, two receipts, report: eight commits, two moments each.
    assert found == {"kills": 16, "redone": 0}
    tables = list((tmp_path / "tables").iterdir())
    assert len(tables) == 17
    for table in tables:
        assert parts(table) == whole
        assert verify(table).discovered == 10
        assert not list(table.rglob(".tmp-*"))


def test_killed_at_random_moments_from_outside(
    folder: Path, tmp_path: Path, picture: Callable[..., bytes], stub: Any, parts: Parts
) -> None:
    for number in range(60):
        (folder / f"more-{number}.png").write_bytes(picture(number, "PNG"))
    (folder / "bad.jpg").write_bytes(b"")
    caption(CONFIG, [folder], tmp_path / "whole", stub())
    found = run("random", folder, tmp_path / "killed")
    assert found["kills"] >= 3
    assert found["redone"] == 0
    assert parts(tmp_path / "killed") == parts(tmp_path / "whole")
    report = verify(tmp_path / "killed")
    assert (report.discovered, report.captioned, report.failed) == (71, 70, {"zero_bytes": 1})
