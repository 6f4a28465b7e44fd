"""A captioning process that dies costs a picture at most, and never the run."""

from __future__ import annotations

import hashlib
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

from pipeline import storage
from pipeline.caption import Loader, attempts, caption, fleet, verify
from pipeline.config import CaptionConfig
from pipeline.errors import ModelNotFoundError, WorkerError

Rows = Callable[[Path], list[dict[str, Any]]]
ByMember = Callable[[Path], dict[str, Any]]
Parts = Callable[[Path], dict[str, bytes]]

LIGHT = Path(__file__).parent / "light"
CONFIG = CaptionConfig(unit_size=5, batch_size=3)


def without_recipe(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "recipe"} for row in found]


def test_rows_are_those_of_the_engine_in_this_process(
    folder: Path, tmp_path: Path, light: Callable[..., Loader], rows: Rows, picture: Any,
    make_zip: Callable[..., Path],
) -> None:  # fmt: skip
    (folder / "copy of 00.jpg").write_bytes((folder / "00.jpg").read_bytes())
    (folder / "bad.jpg").write_bytes(b"")
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(picture(70))
    (folder / "notes.txt").write_bytes(b"x")
    packed = make_zip(tmp_path / "a.zip", [("x.jpg", picture(71)), ("y.jpg", picture(3))])
    named = light()
    found = caption(CONFIG, [folder, packed], tmp_path / "isolated", named)
    sys.path.insert(0, str(LIGHT))
    try:
        import light_captioner
    finally:
        sys.path.remove(str(LIGHT))
    caption(CONFIG, [folder, packed], tmp_path / "here", light_captioner.captioner())
    assert without_recipe(rows(tmp_path / "isolated")) == without_recipe(rows(tmp_path / "here"))
    assert (found.discovered, found.captioned, found.failed) == (16, 14, {"zero_bytes": 1})
    assert verify(tmp_path / "isolated").captioned == 14


def test_a_picture_that_its_decoder_dies_of_is_a_row(
    folder: Path, tmp_path: Path, light: Callable[..., Loader], by_member: ByMember, picture: Any,
    deaths: list[str],
) -> None:  # fmt: skip
    data = picture(50) + b"DEADLY"
    (folder / "04a.jpg").write_bytes(data)
    signals = [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL]
    by, count = [int(one) for one in signals], str(tmp_path / "count")
    loader = light("with_deadly_decoder", mark="DEADLY", by=by, count=count)
    report = caption(CONFIG, [folder], tmp_path / "t", loader)
    assert (report.captioned, report.failed) == (10, {"decoder_crash": 1})
    assert deaths == [f"was ended by {one.name}" for one in signals]
    row = by_member(tmp_path / "t")["04a.jpg"]
    assert (row["status"], row["error_code"]) == ("failed", "decoder_crash")
    assert (row["sha256"], row["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert "ended the process" in row["error"]
    assert not list((tmp_path / "t" / "_attempts").iterdir())
    assert verify(tmp_path / "t").failed == {"decoder_crash": 1}


def test_two_deadly_pictures_in_a_batch_are_two_rows(
    folder: Path, tmp_path: Path, light: Callable[..., Loader], picture: Any, by_member: ByMember
) -> None:
    for name in ("04a.jpg", "04b.jpg"):
        (folder / name).write_bytes(picture(len(name)) + b"DEADLY" + name.encode())
    loader = light("with_deadly_decoder", mark="DEADLY", by=[-1])
    report = caption(CONFIG, [folder], tmp_path / "t", loader)
    assert (report.captioned, report.failed) == (10, {"decoder_crash": 2})


def test_a_picture_that_the_captioner_dies_of_is_a_row(
    folder: Path, tmp_path: Path, light: Callable[..., Loader], by_member: ByMember,
    deaths: list[str], rows: Rows,
) -> None:  # fmt: skip
    caption(CONFIG, [folder], tmp_path / "well", light())
    well = by_member(tmp_path / "well")
    deadly = well["b/01.jpg"]["caption"]
    report = caption(CONFIG, [folder], tmp_path / "t", light(dies=deadly))
    assert (report.captioned, report.failed) == (9, {"captioner_crash": 1})
    found = by_member(tmp_path / "t")
    assert found["b/01.jpg"]["error_code"] == "captioner_crash"
    # The pictures that shared its batch have their captions.
    assert {n: r["caption"] for n, r in found.items() if n != "b/01.jpg"} == {
        n: r["caption"] for n, r in well.items() if n != "b/01.jpg"
    }
    assert len(deaths) == 1 + 2 * attempts.TRIES


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV])
def test_a_process_that_dies_once_costs_no_row(
    folder: Path, tmp_path: Path, light: Callable[..., Loader], parts: Parts, deaths: list[str],
    by: int, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    caption(CONFIG, [folder], tmp_path / "whole", light())
    capfd.readouterr()
    loader = light("once_killed", path=str(tmp_path / "mark"), by=int(by))
    report = caption(CONFIG, [folder], tmp_path / "t", loader)
    assert (report.captioned, report.failed) == (10, {})
    assert parts(tmp_path / "t") == parts(tmp_path / "whole")
    assert len(deaths) == 1
    # What was lost is not counted twice.
    assert capfd.readouterr().err.startswith("caption 10/10 img  ")
    assert not list((tmp_path / "t" / "_attempts").iterdir())


def test_attempts_survive_restarts_of_the_whole_run(
    folder: Path, tmp_path: Path, light: Callable[..., Loader], picture: Any, deaths: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (folder / "04a.jpg").write_bytes(picture(50) + b"DEADLY")
    loader, table = light("with_deadly_decoder", mark="DEADLY", by=[11]), tmp_path / "t"

    class StoppedError(Exception):
        pass

    def stopped(self: fleet.Fleet, *_: Any) -> None:
        raise StoppedError

    for runs in range(1, 2 + attempts.TRIES):
        with monkeypatch.context() as patch, pytest.raises(StoppedError):
            patch.setattr(fleet.Fleet, "replace", stopped)
            caption(CONFIG, [folder], table, loader)
        noted = [json.loads(path.read_text()) for path in (table / "_attempts").iterdir()]
        assert max(found["deaths"] for found in noted) == runs == len(deaths)
    report = caption(CONFIG, [folder], table, loader)
    assert report.failed == {"decoder_crash": 1}
    assert len(deaths) == 1 + attempts.TRIES
    assert not list((table / "_attempts").iterdir())


def test_kills_from_outside_blame_no_picture_but_end_a_run_that_gets_nowhere(
    folder: Path, tmp_path: Path, light: Callable[..., Loader], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "HOPELESS", 4)
    (folder / "00.jpg").write_bytes((folder / "00.jpg").read_bytes() + b"DEADLY")
    loader = light("with_deadly_decoder", mark="DEADLY", by=[9])
    with pytest.raises(WorkerError, match=r"4 processes died .* no single picture .*SIGKILL"):
        caption(CONFIG, [folder], tmp_path / "t", loader)
    assert caption(CONFIG, [folder], tmp_path / "t", light()).captioned == 10


def test_what_a_process_meets_ends_the_run_in_its_words(
    folder: Path, tmp_path: Path, light: Callable[..., Loader]
) -> None:
    with pytest.raises(ModelNotFoundError, match=r"^no such model: captioner/9$"):
        caption(CONFIG, [folder], tmp_path / "t", light("that_cannot_be_loaded"))
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        caption(CONFIG, [folder], tmp_path / "t", light("with_a_bug"))
    with pytest.raises(WorkerError, match=r"3 captioning processes .* exit code 3"):
        caption(CONFIG, [folder], tmp_path / "t", light("that_dies_at_once"))
    assert caption(CONFIG, [folder], tmp_path / "t", light()).captioned == 10


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(LIGHT / "caption_light.py"), *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.usefixtures("light")
def test_a_run_that_is_killed_leaves_no_process_and_a_second_run_is_refused_at_once(
    folder: Path, tmp_path: Path
) -> None:
    pids, table = tmp_path / "pids", tmp_path / "t"
    slow = json.dumps({"path": str(pids), "seconds": 60})
    first = started(folder, table, "that_notes_its_process", slow)
    worker = int(wait_for(lambda: pids.exists() and pids.read_text().strip()))
    wait_for((table / "_table.json").exists)
    second = started(folder, table, "that_notes_its_process", slow)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 6
    assert f"another run (process {first.pid}) is writing {table}" in said
    assert pids.read_text().split() == [str(worker)]
    assert is_alive(worker)
    first.kill()
    first.communicate()
    wait_for(lambda: not is_alive(worker))
    with storage.lock(table):
        pass


@pytest.mark.usefixtures("light")
def test_killed_at_random_run_or_process_or_both(
    folder: Path, tmp_path: Path, picture: Callable[..., bytes]
) -> None:
    for number in range(30):
        (folder / f"more-{number % 9}-{number}.png").write_bytes(picture(number % 20, "PNG"))
    (folder / "bad.jpg").write_bytes(b"")
    (folder / "deadly.jpg").write_bytes(picture(50) + b"DEADLY")
    arguments = json.dumps({"mark": "DEADLY", "by": [11], "seconds": 0.02})
    light = [sys.executable, str(LIGHT / "caption_light.py"), str(folder), "{table}"]
    done = subprocess.run(
        [
            *(sys.executable, str(Path(__file__).parent / "kill_any.py")),
            *("--kills", "12", "--seconds", "0.2", "1.5", str(tmp_path), "--"),
            *(*light, "with_deadly_decoder", arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert sum(found["kills"].values()) >= 12
    assert verify(tmp_path / "killed-000").failed == {"decoder_crash": 1, "zero_bytes": 1}
