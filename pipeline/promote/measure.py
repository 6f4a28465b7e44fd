"""One captioner measured on the evaluation set, in a process of its own.

    DIRECTORY/job.json        what the process is asked
    DIRECTORY/captions.json   what it found: a caption a picture, and the seconds it took

Candidate and champion go through here alike, one after the other, so that neither inherits the
other's memory, caches or threads, and their speeds can be compared.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline import errors, storage
from pipeline.config import Config
from pipeline.errors import CaptionmillError
from pipeline.records import EvaluationSet, Record

FOUND = "captions.json"
ERROR = "error.json"


class Job(Record):
    """What one process is asked: a captioner, and the pictures."""

    name: str
    model: str
    """The captioner's directory."""
    evaluation_set: EvaluationSet
    device: str
    threads: int | None
    dtype: str
    beam: int | None
    batch_size: int


class Measured(Record):
    """What one captioner said of each picture, in the evaluation set's order."""

    images: tuple[str, ...]
    """Ids, as text."""
    captions: tuple[str, ...]
    scores: tuple[float, ...]
    """Mean token log-probabilities."""
    unfinished: int
    """Captions that were cut at their longest length."""
    seconds: float
    """From the first picture's bytes to the last caption."""


def measure(
    config: Config, name: str, model: Path, evaluation_set: EvaluationSet, directory: Path
) -> Measured:
    """Caption the evaluation set with `model`; a killed promotion's result is taken up.

    Raises:
        ModelError: the model cannot be loaded.
        DataError: a picture cannot be read.
        CaptionmillError: the process died; says how.
    """
    found = _found(directory)
    if found is not None:
        return found
    job = Job(
        name=name,
        model=str(model),
        evaluation_set=evaluation_set,
        device=config.device,
        threads=config.threads,
        dtype=config.score.dtype,
        beam=config.score.beam,
        batch_size=config.score.batch_size,
    )
    (directory / ERROR).unlink(missing_ok=True)
    job.save(directory / "job.json")
    _run(name, directory)
    found = _found(directory)
    if found is None:
        raise CaptionmillError(f"the process that measures {name} left nothing in {directory}")
    return found


def _found(directory: Path) -> Measured | None:
    try:
        return Measured.load(directory / FOUND)
    except (FileNotFoundError, ValidationError, ValueError):
        return None


def _run(name: str, directory: Path) -> None:
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    # Its standard input is a pipe from here: it ends with this process, however that ends.
    with subprocess.Popen(
        [sys.executable, "-P", "-W", "ignore", "-m", "pipeline.promote", str(directory)],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    ) as process:
        try:
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        raise _error(name, directory, code)


def _error(name: str, directory: Path, code: int) -> CaptionmillError:
    try:
        facts: dict[str, Any] = storage.read_json(directory / ERROR)
    except FileNotFoundError:
        ended = f"by signal {-code}" if code < 0 else f"with {code}"
        return CaptionmillError(
            f"the process that measures {name} ended {ended}; run the same command again, with a "
            "smaller score.batch_size if memory was short"
        )
    kind = getattr(errors, facts["kind"], CaptionmillError)
    return kind(f"{name}: {facts['message']}")
