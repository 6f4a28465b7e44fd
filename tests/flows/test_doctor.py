"""The command as a person and a program see it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from flows import cli, doctor
from pipeline.doctor import Check, Finding

LIGHT = [
    check
    for check in doctor.CHECKS
    if check.subject in ("machine", "settings", "work directory", "secrets", "mlflow")
]


def run(*arguments: object) -> tuple[int, str]:
    ended = CliRunner().invoke(cli.main, ["doctor", *map(str, arguments)])
    return ended.exit_code, ended.output


def test_nothing_wrong_ends_with_0_and_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CHECKS", LIGHT)
    code, output = run("--work", tmp_path / "work")
    assert code == 0, output
    assert "ok      work directory: " in output
    assert output.splitlines()[-1].startswith(("all is well", "nothing is wrong; "))
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_told_with_what_to_do_and_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:hunter2@127.0.0.1:{port}")
    monkeypatch.setattr(doctor, "CHECKS", LIGHT)
    (tmp_path / "bad.yaml").write_text("tain: {}\n")
    code, output = run("--work", "/proc/sys/work", "-c", tmp_path / "bad.yaml")
    assert code == 1
    lines = output.splitlines()
    assert any(line.startswith("wrong   settings: ") and "tain" in line for line in lines)
    (place,) = [number for number, line in enumerate(lines) if "cannot be written" in line]
    assert lines[place + 1] == "        -> give another --work, or the right to write there"
    assert f"ann:***@127.0.0.1:{port} does not answer: connection refused" in output
    assert "hunter2" not in output
    assert lines[-1].startswith("3 wrong, ")

    code, output = run("--json", "--work", "/proc/sys/work", "-c", tmp_path / "bad.yaml")
    assert code == 1
    told = json.loads(output)
    assert told["ok"] is False
    wrong = [Finding.model_validate(each) for each in told["findings"] if each["status"] == "wrong"]
    assert [each.subject for each in wrong] == ["settings", "work directory", "mlflow"]


def test_control_characters_of_strangers_do_not_reach_the_terminal() -> None:
    shown = doctor.about(Finding(subject="x", status="wrong", text="a\x1b[2Jb", mend="c\x07"))
    assert "\x1b[2J" not in shown
    assert "\\x1b[2Jb" in shown


def test_every_check_can_be_run() -> None:
    import importlib

    for check in doctor.CHECKS:
        assert isinstance(check, Check)
        assert callable(importlib.import_module(check.module).check)


@pytest.mark.slow
def test_the_whole_command_with_a_server_that_is_away(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ended = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "doctor", "--json"],
        env={**os.environ, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 1
    told = json.loads(ended.stdout)["findings"]
    subjects = {each["subject"]: each["status"] for each in told}
    assert subjects["prefect"] == "wrong"
    assert subjects["torch"] == subjects["cpu"] == subjects["settings"] == "ok"
    assert ended.stderr == ""
    assert list(tmp_path.iterdir()) == []
