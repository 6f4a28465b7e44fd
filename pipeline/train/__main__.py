"""The process of one rank that `launch` started: `python -m pipeline.train JOB`.

In a run's directory:

    ranks/job.json        the settings and the shard set that `launch` hands over
    ranks/<rank>.log      what a rank says; rank 0's is what the user reads
    ranks/<rank>.json     the error that ended it
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import CaptionmillError
from pipeline.masking import masked
from pipeline.memory import keep_freed_memory
from pipeline.records import ShardSet
from pipeline.train.rank import divide_output, train_as_rank


def main(job_file: Path) -> None:
    """Train, and leave word of an error for `launch` to raise."""
    logs, rank = job_file.parent, int(os.environ["RANK"])
    divide_output(logs / f"{rank}.log", rank, spoken=1)
    threading.Thread(target=_heed_the_stage, daemon=True).start()
    warnings.simplefilter("ignore")
    keep_freed_memory()
    try:
        job = storage.read_json(job_file)
        train_as_rank(
            Config.model_validate(job["config"]),
            Path(job["work"]),
            ShardSet.model_validate(job["shard_set"]),
            Path(job["directory"]),
        )
    except Exception as error:  # noqa: BLE001  the last place that can say what it was
        os.write(2, masked("".join(traceback.format_exception(error))).encode())
        known = isinstance(error, CaptionmillError)
        facts = {"kind": type(error).__name__, "known": known, "message": masked(str(error))}
        storage.commit_json(logs / f"{rank}.json", {**facts, "time": time.time()})
        # At once: threads and connections to a rank that is gone would hold it back.
        os._exit(error.exit_code if isinstance(error, CaptionmillError) else 1)


def _heed_the_stage() -> None:
    """Standard input is a pipe from the stage: a byte asks to stop, its end means that it is gone."""
    while os.read(0, 1):
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
