"""Several captioning processes make the rows of one, whichever of them dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import Loader, caption, fleet, verify
from pipeline.caption.table import Table
from pipeline.config import CaptionConfig

Parts = Callable[[Path], dict[str, bytes]]
Light = Callable[..., Loader]


def settings(workers: int) -> CaptionConfig:
    return CaptionConfig(unit_size=5, batch_size=3, workers=workers)


@pytest.fixture
def photos(folder: Path, picture: Callable[..., bytes]) -> Path:
    """Forty-five members in nine units: copies in other units and in the same, and bad ones."""
    for number in range(30):
        (folder / f"more-{number % 7}-{number:02d}.png").write_bytes(picture(number % 13, "PNG"))
    for number, data in enumerate((b"", b"no picture", b"no picture", picture(90)[:-20])):
        (folder / f"bad-{number}.jpg").write_bytes(data)
    (folder / "notes.txt").write_bytes(b"x")
    return folder


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_rows_are_the_same_whatever_the_number_of_processes(
    photos: Path, tmp_path: Path, light: Light, parts: Parts
) -> None:
    whole: dict[str, bytes] = {}
    for workers in (1, 2, 3):
        (tmp_path / f"met{workers}").mkdir()
        loader = light("that_meets_others", path=str(tmp_path / f"met{workers}"), workers=workers)
        report = caption(settings(workers), [photos], tmp_path / f"t{workers}", loader)
        found = {"zero_bytes": 1, "not_an_image": 2, "truncated": 1}
        assert (report.discovered, report.captioned, report.failed) == (45, 40, found)
        whole = whole or parts(tmp_path / "t1")
        assert parts(tmp_path / f"t{workers}") == whole
    assert len(whole) == 9


@pytest.mark.parametrize("size", [1, 2, 7])
def test_units_that_are_read_in_stretches_have_the_same_rows(
    photos: Path, tmp_path: Path, stub: Any, parts: Parts, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:  # fmt: skip
    config = CaptionConfig(unit_size=20, batch_size=3)
    caption(config, [photos], tmp_path / "whole", stub())
    monkeypatch.setattr("pipeline.caption.ahead.HELD", size * (3 * 16 * 16 + 2048))
    caption(config, [photos], tmp_path / "t", stub())
    assert parts(tmp_path / "t") == parts(tmp_path / "whole")


@pytest.mark.slow
def test_a_picture_that_ends_its_process_is_a_row_and_the_others_are_as_ever(
    photos: Path, tmp_path: Path, light: Light, parts: Parts, picture: Callable[..., bytes]
) -> None:
    for name in ("04a.jpg", "more-3-99.jpg"):
        (photos / name).write_bytes(picture(50) + b"DEADLY" + name.encode())
    loader = light("with_deadly_decoder", mark="DEADLY", by=[11], seconds=0.02)
    for workers in (1, 2, 3):
        report = caption(settings(workers), [photos], tmp_path / f"t{workers}", loader)
        assert report.failed["decoder_crash"] == 2
        assert parts(tmp_path / f"t{workers}") == parts(tmp_path / "t1")
        assert not list((tmp_path / f"t{workers}" / "_attempts").iterdir())


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV])
def test_one_of_two_processes_that_dies_costs_no_row(
    photos: Path, tmp_path: Path, light: Light, parts: Parts, deaths: list[str], by: int,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caption(settings(1), [photos], tmp_path / "whole", light())
    capfd.readouterr()
    loader = light("once_killed", path=str(tmp_path / "mark"), by=int(by), seconds=0.02)
    report = caption(settings(2), [photos], tmp_path / "t", loader)
    assert report.captioned == 40
    assert len(deaths) == 1
    assert parts(tmp_path / "t") == parts(tmp_path / "whole")
    assert "caption 45/45 img  " in capfd.readouterr().err


def test_processes_that_cannot_be_started_are_done_without(
    photos: Path, tmp_path: Path, light: Light, capfd: pytest.CaptureFixture[str]
) -> None:
    loader = light("that_only_the_first_loads", path=str(tmp_path / "tries"), others=fleet.STARTS)
    assert caption(settings(2), [photos], tmp_path / "t", loader).captioned == 40
    said = "a captioning process cannot be started (ended with exit code 3); going on with 1"
    assert said in capfd.readouterr().err


@pytest.mark.usefixtures("light")
def test_a_run_that_is_killed_leaves_none_of_its_processes(photos: Path, tmp_path: Path) -> None:
    pids, table = tmp_path / "pids", tmp_path / "t"
    slow = json.dumps({"path": str(pids), "seconds": 60})
    light = Path(__file__).parent / "light" / "caption_light.py"
    command = [sys.executable, str(light), str(photos), str(table), "that_notes_its_process", slow]
    run = subprocess.Popen([*command, "2"], stderr=subprocess.DEVNULL)
    workers = wait_for(
        lambda: pids.exists() and len(found := pids.read_text().split()) == 2 and found
    )
    assert all(is_alive(int(pid)) for pid in workers)
    run.kill()
    run.wait()
    wait_for(lambda: not any(is_alive(int(pid)) for pid in workers))


def test_a_run_that_stops_early_leaves_none_of_its_processes(
    photos: Path, tmp_path: Path, light: Light, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StoppedError(Exception):
        pass

    pids, write, written = tmp_path / "pids", Table.write, []

    def stops(self: Table, unit: str, *rest: Any) -> Any:
        written.append(unit)
        if len(written) == 3:
            raise StoppedError
        return write(self, unit, *rest)

    loader = light("that_notes_its_process", path=str(pids), seconds=0.05)
    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(Table, "write", stops)
        caption(settings(2), [photos], tmp_path / "t", loader)
    assert not any(is_alive(int(pid)) for pid in pids.read_text().split())
    assert len(parts(tmp_path / "t")) == 2
    caption(settings(3), [photos], tmp_path / "t", loader)
    caption(settings(1), [photos], tmp_path / "whole", light())
    assert parts(tmp_path / "t") == parts(tmp_path / "whole")
    assert verify(tmp_path / "t").captioned == 40


@pytest.mark.slow
def test_a_picture_whose_decoding_does_not_end_is_a_row(
    photos: Path, tmp_path: Path, light: Light, picture: Callable[..., bytes], parts: Parts
) -> None:
    (photos / "04a.jpg").write_bytes(picture(50) + b"DEADLY")
    loader = light("with_deadly_decoder", mark="DEADLY", by=[0])
    for workers in (1, 2):
        config = settings(workers).model_copy(update={"hang_seconds": 5.0})
        report = caption(config, [photos], tmp_path / f"t{workers}", loader)
        assert (report.captioned, report.failed["decoder_hang"]) == (40, 1)
    assert parts(tmp_path / "t1") == parts(tmp_path / "t2")


@pytest.mark.slow
@pytest.mark.usefixtures("light")
def test_killed_at_random_run_or_one_of_two_processes_or_both(
    photos: Path, tmp_path: Path, picture: Callable[..., bytes]
) -> None:
    (photos / "deadly.jpg").write_bytes(picture(50) + b"DEADLY")
    arguments = json.dumps({"mark": "DEADLY", "by": [11], "seconds": 0.02})
    light = [sys.executable, str(Path(__file__).parent / "light" / "caption_light.py")]
    done = subprocess.run(
        [
            *(sys.executable, str(Path(__file__).parent / "kill_any.py")),
            *("--kills", "12", "--seconds", "0.2", "2", str(tmp_path), "--"),
            *(*light, str(photos), "{table}", "with_deadly_decoder", arguments, "2"),
        ],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(json.loads(done.stdout)["kills"].values()) >= 12
