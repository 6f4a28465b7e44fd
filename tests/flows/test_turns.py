"""Files that one process holds at a time, and what becomes of them when it is killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flows import gpus
from flows.gpus import hold_gpus
from flows.turns import is_held, take, turn
from pipeline.config import Config

ROOT = Path(__file__).parents[2]

HOLDER = """
import sys, time
from pathlib import Path
from flows.turns import take
file = take(Path(sys.argv[1]), sys.argv[2], "the thing")
print("held", flush=True)
time.sleep(600)
"""


def holder(path: Path, owner: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), owner],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_holder_holds_nothing_and_whoever_waits_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.lock"
    first = holder(path, "run one")
    assert first.stdout is not None and first.stdout.readline() == "held\n"
    assert is_held(path)
    second = holder(path, "run two")
    assert second.stderr is not None and second.stdout is not None
    assert second.stderr.readline() == "run     waits for the thing, which run one has\n"
    first.kill()
    first.communicate()
    assert second.stdout.readline() == "held\n"
    assert (is_held(path), path.read_text()) == (True, "run two")
    second.kill()
    second.communicate()
    assert not is_held(path)
    assert not is_held(tmp_path / "absent.lock")


def test_looking_at_a_file_holds_nobody_up(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with turn(path, "run one", "the thing"):
        assert is_held(path) and is_held(path)
    with turn(path, "run two", "the thing"):
        assert is_held(path)


def test_a_file_that_was_cleared_away_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.lock"
    path.touch()
    compared = os.path.samestat

    def cleared_away_meanwhile(*stats: os.stat_result) -> bool:
        monkeypatch.setattr(os.path, "samestat", compared)
        path.unlink()
        path.touch()
        return False

    monkeypatch.setattr(os.path, "samestat", cleared_away_meanwhile)
    with take(path, "run one", "the thing"):
        assert is_held(path)


@pytest.mark.parametrize(
    ("device", "devices", "held"),
    [
        ("cpu", 1, []),
        ("cuda", 1, ["GPU-0"]),
        ("cuda:1", 1, ["GPU-1"]),
        ("cuda", 2, ["GPU-0", "GPU-1"]),
        ("cuda", None, ["GPU-0", "GPU-1", "GPU-2"]),
        ("cuda:2", None, ["GPU-2"]),
    ],
)
def test_a_stage_holds_the_gpus_it_computes_on_and_no_longer(
    device: str,
    devices: int | None,
    held: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pipeline.predict.choose_device", lambda _: torch.device(device))
    monkeypatch.setattr(gpus, "_uuid", "GPU-{}".format)
    monkeypatch.setattr(gpus, "_seen", lambda: 3)

    def holds() -> list[str]:
        return sorted(path.stem for path in tmp_path.glob("gpus/*.lock") if is_held(path))

    with hold_gpus(Config(), tmp_path, devices):
        assert holds() == held
    assert holds() == []
