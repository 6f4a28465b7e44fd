"""A check that crashes, hangs or raises costs its own line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from pipeline.doctor import Check, Finding, Inputs, examine

GOOD = """
from pipeline.doctor.finding import ok
def check(inputs):
    print("what a library prints")
    yield ok("good", f"work is {inputs.work}")
"""
CRASHING = """
import os, signal
from pipeline.doctor.finding import ok
def check(inputs):
    yield ok("crashing", "first")
    os.kill(os.getpid(), signal.SIGSEGV)
"""
HANGING = """
import pathlib, signal, subprocess, sys, time
from pipeline.doctor.finding import ok
def check(inputs):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield ok("hanging", str(child.pid))
    time.sleep(600)
"""
RAISING = """
def check(inputs):
    raise ZeroDivisionError("at http://ann:hunter2@host")
    yield
"""
EXPECTED = """
from pipeline.errors import ConfigError
def check(inputs):
    raise ConfigError("threads = 0 must be 1 or more")
    yield
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    paths = [str(tmp_path), str(Path(__file__).parents[2])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    def examined(*sources: str, seconds: float = 60) -> list[list[Finding]]:
        checks = []
        for number, source in enumerate(sources):
            (tmp_path / f"check{number}.py").write_text(source)
            checks.append(Check(f"check {number}", f"check{number}", seconds))
        return list(examine(checks, Inputs(work="/w")))

    return examined


def test_findings_come_in_the_order_of_the_checks(run) -> None:
    found = run(GOOD, EXPECTED, GOOD)
    assert [[each.subject for each in part] for part in found] == [["good"], ["check1"], ["good"]]
    assert found[0][0].text == "work is /w"
    assert (found[1][0].status, found[1][0].text) == ("wrong", "threads = 0 must be 1 or more")


def test_a_crash_is_one_line_and_what_was_found_before_stays(run) -> None:
    (found, after) = run(CRASHING, GOOD)
    assert [(each.subject, each.status) for each in found] == [
        ("crashing", "ok"),
        ("check 0", "wrong"),
    ]
    assert "SIGSEGV" in found[1].text
    assert after[0].status == "ok"


def test_a_bug_is_one_line_without_passwords(run) -> None:
    ((found,),) = run(RAISING)
    assert found.status == "wrong"
    assert "ZeroDivisionError" in found.text
    assert "hunter2" not in found.text


def test_what_hangs_is_given_up_with_its_children(run) -> None:
    (found,) = run(HANGING, seconds=5)
    assert [each.status for each in found] == ["ok", "wrong"]
    assert "no answer in 5 s" in found[1].text
    child = int(found[0].text)
    give_up = time.monotonic() + 30
    while _runs(child):
        assert time.monotonic() < give_up
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
