"""METEOR 1.5, which is not computed here: the Java program that pycocoevalcap brings is asked.

Denkowski and Lavie, 'Meteor Universal: Language Specific Translation Evaluation for Any Target
Language' (WMT 2014). Optional: needs the extra `meteor` and a Java runtime. Only text goes there
and back: it is asked the counts of each image's best alignment, then the scores of all counts.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import CaptionmillError, ConfigError
from pipeline.metrics import ptb

METEOR = "METEOR 1.5 (pycocoevalcap's Java)"
"""Its source, for score cards."""

INSTALL = "pip install 'captionmill[meteor]'"

JAR = "meteor-1.5.jar"

PATIENCE = 180.0
"""Seconds in which Java must have started; with `PATIENCE_IMAGE` for each image, in which all
must be scored. About thirty times what it takes, so only a process that hangs needs them."""

PATIENCE_IMAGE = 0.05

_BREAKS_THE_PROTOCOL = re.compile(r"\|\|\||[\r\n]+")


def require_meteor() -> list[str]:
    """The command that starts METEOR.

    Raises:
        ConfigError: the package or a Java runtime that works is missing; says how to get it.
    """
    jar = _jar()
    if jar is None:
        raise ConfigError(f"METEOR needs the package pycocoevalcap, which is missing: {INSTALL}")
    java = shutil.which("java")
    if java is None or not _works(java):
        found = "there is no `java` on the PATH" if java is None else f"{java} does not work"
        raise ConfigError(
            f"METEOR needs a Java runtime, and {found}: install one (Debian and Ubuntu: apt install "
            "default-jre-headless; macOS: brew install openjdk), or leave METEOR out"
        )
    return [java, "-Xmx2G", "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]


def _jar() -> Path | None:
    """Where pycocoevalcap has the program; None if it is not installed."""
    package = importlib.util.find_spec("pycocoevalcap")
    folders = package.submodule_search_locations if package is not None else None
    jars = (Path(folder, "meteor", JAR) for folder in folders or ())
    return next((jar for jar in jars if jar.is_file()), None)


def _works(java: str) -> bool:
    """Whether it runs: macOS has a `java` that only says where to get one."""
    try:
        asked = subprocess.run([java, "-version"], capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


def meteor_scores(
    references: Sequence[Sequence[str]], hypotheses: Sequence[str]
) -> tuple[float, list[float]]:
    """METEOR of the corpus and of each image, in 0..1.

    The corpus score is METEOR's own, of the counts of all images together; not a mean.

    Args:
        references: untokenised captions of each image.
        hypotheses: one untokenised caption an image, in the same order; it may be empty.

    Raises:
        ConfigError: the package or Java is missing.
        CaptionmillError: Java ended, hung or gave no scores.
        ValueError: no images, an image without references (named by its place), or another
            number of hypotheses than of images.
    """
    if len(references) != len(hypotheses):
        raise ValueError(
            f"{len(hypotheses):,} hypotheses for {len(references):,} images; give one each"
        )
    if not hypotheses:
        raise ValueError("there is nothing to score: references and hypotheses are empty")
    for index, captions in enumerate(references):
        if not captions:
            raise ValueError(f"references[{index}] is empty; every image needs at least one")
    command = require_meteor()
    tokenized = iter(ptb.tokenize([caption for captions in references for caption in captions]))
    questions = [
        _fields("SCORE", *[next(tokenized) for _ in captions], hypothesis)
        for captions, hypothesis in zip(references, ptb.tokenize(hypotheses), strict=True)
    ]
    with _java(command, PATIENCE + PATIENCE_IMAGE * len(hypotheses)) as child:
        counts = [_ask(child, question, 1)[0] for question in questions]
        answers = _ask(child, _fields("EVAL", *counts), len(counts) + 1)
    try:
        *per_image, corpus = map(float, answers)
    except ValueError:
        raise CaptionmillError(
            "METEOR's Java process answered something else than scores; this pycocoevalcap is not "
            f"one that captionmill knows (1.2): {INSTALL}"
        ) from None
    return corpus, per_image


def _fields(*texts: str) -> str:
    """One line of the protocol; no text in it can end a field or the line."""
    return " ||| ".join(
        _BREAKS_THE_PROTOCOL.sub(lambda found: "" if found[0] == "|||" else " ", text)
        for text in texts
    )


@contextmanager
def _java(command: Sequence[str], seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """A child process that has ended when the block is left, and that lives `seconds` at most."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        watchdog = threading.Timer(seconds, child.kill)
        watchdog.daemon = True
        watchdog.start()
        try:
            yield child
        except BrokenPipeError:
            raise _ended(child) from None
        finally:
            watchdog.cancel()
            child.kill()
            child.communicate()  # closes the pipes; unlike close(), also those of a dead reader


def _ask(child: subprocess.Popen[bytes], question: str, lines: int) -> list[str]:
    """The `lines` lines that answer a question."""
    assert child.stdin is not None and child.stdout is not None
    child.stdin.write(question.encode("utf-8", "replace") + b"\n")
    child.stdin.flush()
    answers = [child.stdout.readline() for _ in range(lines)]
    if not answers[-1].endswith(b"\n"):
        raise _ended(child)
    return [answer.decode("utf-8", "replace").strip() for answer in answers]


def _ended(child: subprocess.Popen[bytes]) -> CaptionmillError:
    return CaptionmillError(
        "METEOR's Java process died, or hung and was ended, before all images were scored (exit "
        f"status {child.wait()}); it may need up to 2 GB of memory: try with fewer images, reinstall "
        f"it ({INSTALL}), or leave METEOR out"
    )
