"""METEOR: pycocoevalcap's numbers where Java is here, and a child process that never stays.

The tests of the process itself put a `java` of their own, a shell script, on the PATH.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import stat
import time
from pathlib import Path

import pytest

from pipeline.errors import CaptionmillError, ConfigError
from pipeline.metrics import meteor
from pipeline.metrics.meteor import meteor_scores, require_meteor

GOLDEN = json.loads(
    Path(__file__).with_name("coco_caption_golden.json").read_text(encoding="utf-8")
)
JAVA = pytest.mark.skipif(
    shutil.which("java") is None or importlib.util.find_spec("pycocoevalcap") is None,
    reason="needs Java and pycocoevalcap",
)

REFERENCES = [*GOLDEN["references"], ["a dog on a sofa"], ["some cups, isn't it"]]
HYPOTHESES = [*GOLDEN["hypotheses"], "a puppy on the couch", "It isn't 1 1/2 cups."]
# What pycocoevalcap 1.2's Meteor class answers; a synonym and a paraphrase among the matches.
EXPECTED_CORPUS = 0.31922092812631087
EXPECTED = [
    0.3880475937577118,
    0.3941781645096736,
    0.363166923119682,
    0.0,
    0.33288857253275517,
    1.0,
    0.19555555555555557,
    0.35402966199003044,
]

ODD = [
    (["a dog ||| runs", "the dog\nruns\r\nfast\u2028here"], "a dog ||| runs"),
    (["犬が走る", "собака бежит"], "犬が走る"),
    (["|||", "café crème 🐕", ""], "café ||||||| crème\n|||"),
    (["1 1/2 cups, isn't it?", "\ud800 \x00 \x85 a dog"], "1 1/2 cups"),
    (["a dog"], ""),
    (["."], "a dog"),
    ([""], "||| |||"),
    (["a dog"], "\ud83d"),
]


@JAVA
def test_scores_are_those_of_pycocoevalcap():
    corpus, per_image = meteor_scores(REFERENCES, HYPOTHESES)
    assert corpus == pytest.approx(EXPECTED_CORPUS, rel=1e-12)
    assert per_image == pytest.approx(EXPECTED, rel=1e-12)


@JAVA
def test_texts_that_look_like_the_protocol_or_are_not_english(capfd):
    plain = zip(REFERENCES, HYPOTHESES, strict=True)
    ordered = [pair for pairs in zip(ODD, plain, strict=True) for pair in pairs]
    references, hypotheses = zip(*ordered, strict=True)
    corpus, per_image = meteor_scores(references, hypotheses)
    # A line too many or too few would have moved the scores behind it.
    assert per_image[1::2] == pytest.approx(EXPECTED, rel=1e-12)
    odd = per_image[::2]
    assert 0 < corpus < 1 and odd[0] > 0.9 and odd[4:] == [0.0] * 4
    assert capfd.readouterr() == ("", "")


def test_no_field_can_end_a_field_or_a_line():
    line = meteor._fields("SCORE", "a ||| b", "c\r\nd", "||||", "")
    assert line == "SCORE ||| a  b ||| c d ||| | ||| "


def test_numbers_and_gaps_in_the_input_are_refused():
    with pytest.raises(ValueError, match="1 hypotheses for 2 images"):
        meteor_scores([["a"], ["b"]], ["a"])
    with pytest.raises(ValueError, match="nothing to score"):
        meteor_scores([], [])
    with pytest.raises(ValueError, match=r"references\[1\]"):
        meteor_scores([["a"], []], ["a", "b"])


@pytest.fixture
def package(monkeypatch):
    """As if pycocoevalcap were installed."""
    monkeypatch.setattr(meteor, "_jar", lambda: Path(meteor.JAR))


@pytest.fixture
def java(tmp_path, monkeypatch, package):
    """A function that makes `java` a shell script, which writes its process id first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    pid = tmp_path / "pid"

    def install(script: str) -> Path:
        program = folder / "java"
        program.write_text(
            f'#!/bin/sh\n[ "$1" = -version ] && exit 0\necho $$ > "{pid}"\n{script}\n'
        )
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return pid

    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return install


def assert_ended(pid: Path) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


ANSWERS = 'while read -r line; do case "$line" in SCORE*) echo 1.0 2.0;; EVAL*) echo 0.25; echo 0.75; echo 0.5;; esac; done'


def test_the_last_score_is_the_corpus_and_the_child_is_ended(java, capfd):
    pid = java(f"echo noise >&2\n{ANSWERS}")
    assert meteor_scores([["a"], ["b"]], ["a", "b"]) == (0.5, [0.25, 0.75])
    assert_ended(pid)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "script",
    [
        "echo broken >&2; exit 3",
        "read -r line; echo 1.0; exit 3",
        "read -r line; echo 1.0; read -r line; printf 1.; exit 3",
    ],
)
def test_a_child_that_dies_is_an_error_that_says_so(java, script, capfd):
    pid = java(script)
    with pytest.raises(CaptionmillError, match=r"METEOR's Java process died.*exit status 3"):
        meteor_scores([["a"], ["b"]], ["a", "b"])
    assert_ended(pid)
    assert capfd.readouterr() == ("", "")


def test_a_child_that_dies_while_it_is_written_to(java):
    pid = java("exec <&-; sleep 0.2; exit 4")
    with pytest.raises(CaptionmillError, match=r"exit status (4|-9)"):
        meteor_scores([["a " * 100_000]] * 3, ["a"] * 3)
    assert_ended(pid)


def test_a_child_that_hangs_is_ended(java, monkeypatch):
    monkeypatch.setattr(meteor, "PATIENCE", 0.5)
    pid = java("exec sleep 600")
    started = time.monotonic()
    with pytest.raises(CaptionmillError, match="hung"):
        meteor_scores([["a"]], ["a"])
    assert time.monotonic() - started < 60
    assert_ended(pid)


def test_a_child_that_answers_something_else(java):
    pid = java("while read -r line; do echo Error: no; echo Error: no; done")
    with pytest.raises(CaptionmillError, match="something else than scores"):
        meteor_scores([["a"]], ["a"])
    assert_ended(pid)


def test_an_interrupt_ends_the_child_too(java, monkeypatch):
    pid = java(ANSWERS)

    def interrupted(child, question, lines):
        while not (pid.is_file() and pid.read_text()):
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr(meteor, "_ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        meteor_scores([["a"]], ["a"])
    assert_ended(pid)


def test_no_java_says_what_to_install(package, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no `java` on the PATH: install one") as raised:
        require_meteor()
    assert raised.value.exit_code == 2


def test_a_java_that_does_not_work_is_none(java, tmp_path):
    java("")
    (tmp_path / "bin" / "java").write_text("#!/bin/sh\necho get one at ... >&2\nexit 1\n")
    with pytest.raises(ConfigError, match="does not work"):
        require_meteor()


def test_no_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'captionmill\[meteor\]'"):
        require_meteor()
