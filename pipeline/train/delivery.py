"""What a run's directory keeps for the tracking server, and its way there.

    samples/<epoch>.json   captions of the same few validation pictures
    curves.svg             losses, scores and rates so far
    metrics.jsonl          the points (`tracking.Outbox`)

What is sent twice is the same to the server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from pipeline import storage
from pipeline.tracking import Outbox, Run

SAMPLES, CURVES = "samples", "curves.svg"


def sample(epoch: int) -> str:
    """The name of an epoch's captions."""
    return f"{SAMPLES}/{epoch:04d}.json"


def samples(directory: Path) -> dict[int, str]:
    """The names of all captions that a run's directory has, by epoch."""
    found = storage.matching(directory / SAMPLES, "*.json")
    return {int(path.stem): f"{SAMPLES}/{path.name}" for path in found}


def deliver(run: Run, outbox: Outbox, directory: Path, names: Sequence[str]) -> bool:
    """Send the captions of these `names`, the curves with them, and the points.

    Points come last: as long as some wait, captions may wait too. False if nobody answers.
    """
    for name in [*names, *[CURVES] * bool(names)]:
        # Of an earlier run somebody may have removed them.
        with contextlib.suppress(FileNotFoundError):
            if not run.log_text((directory / name).read_text(encoding="utf-8"), name):
                return False
    return outbox.deliver(run) == 0
