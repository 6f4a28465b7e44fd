"""What stages say: text or JSON, masked, and told to whoever listens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from pipeline import log_lines
from pipeline.errors import ConfigError
from pipeline.log_lines import Line, listening, parse, pass_on
from pipeline.progress import Progress, say

ROOT = Path(__file__).parents[1]


def test_text_is_what_people_read(capsys: pytest.CaptureFixture[str]) -> None:
    say("train", "epoch 1")
    assert capsys.readouterr().err == "train   epoch 1\n"


def test_json_is_one_object_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(log_lines.FORMAT, "json")
    monkeypatch.setenv(log_lines.RUN, "an-id")
    say("promote", "s3 ann:x is\nréady at http://ann:secret@host", "warning")
    line = Progress("score", 3, every=1000)
    line.add(3)
    line.close()
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {
        "level": "warning",
        "stage": "promote",
        "flow_run": "an-id",
        "message": "s3 ann:x is\nréady at http://ann:***@host",
    }
    assert second["stage"] == "score"
    assert second["message"].startswith("3/3 img  ")
    assert first.keys() | {"time"} == second.keys()


def test_a_terminals_line_is_not_redrawn_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(log_lines.FORMAT, "json")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert not Progress("score", 3).terminal


def test_listeners_hear_everything_of_theirs_and_nothing_after(
    capsys: pytest.CaptureFixture[str],
) -> None:
    heard: list[Line] = []
    with listening(heard.append):
        say("train", "resuming")
        say("train", "step 3", repeated=True)
        pass_on("train   step 4 of http://ann:secret@host\n")
        line = Progress("score", 2, every=0)
        line.add()
        line.close()
    say("train", "over")
    told = [(each.stage, each.message.partition(" ")[0], each.repeated) for each in heard]
    assert told == [
        ("train", "resuming", False),
        ("train", "step", True),
        ("train", "step", True),
        ("score", "1/2", True),
        ("score", "1/2", False),
    ]
    assert "step 4" in capsys.readouterr().err


def test_a_line_of_another_process_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Line("train", "epoch 1/2  step 3", "warning", repeated=True)
    assert parse(log_lines.as_json(said)) == said
    assert parse("train   epoch 1/2  step 3\n") == Line("train", "epoch 1/2  step 3", repeated=True)
    assert parse("\n") is None


def test_another_choice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(log_lines.FORMAT, "xml")
    with pytest.raises(ConfigError, match="CAPTIONMILL_LOG = 'xml' is neither text nor json"):
        say("train", "epoch 1")


@pytest.mark.parametrize(("chosen", "code"), [("json", 2), ("xml", 2)])
def test_a_command_ends_in_the_chosen_form(chosen: str, code: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "config", "-c", "none.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), log_lines.FORMAT: chosen},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    if chosen == "json":
        told = json.loads(done.stderr)
        assert (told["level"], told["stage"]) == ("error", "command")
        assert told["message"].startswith("no configuration file none.yaml")
    else:
        assert done.stderr.startswith("error: CAPTIONMILL_LOG = 'xml'")


WRONG = {
    "usage": ("main(['caption'])", 2, "Missing option '--table'"),
    "command": ("main(['nosuch'])", 2, "No such command 'nosuch'"),
    "interrupted": ("stop(KeyboardInterrupt()); main(['models'])", 130, "interrupted; run"),
    "bug": (
        "stop(ZeroDivisionError('of ours')); main(['models'])",
        1,
        "ZeroDivisionError: of ours",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_whatever_goes_wrong_is_one_object(kind: str, tmp_path: Path) -> None:
    code, status, words = WRONG[kind]
    program = f"""
from flows.cli import main
def stop(error):
    def run(**_): raise error
    main.commands["models"].callback = run
    main.commands["models"].invoke_without_command = True
{code}
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), log_lines.FORMAT: "json"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status
    told = json.loads(done.stderr)
    assert (told["stage"], set(told)) == (
        "command",
        {"time", "flow_run", "stage", "message", "level"},
    )
    assert words in told["message"]
