"""Training as one rank of those that torchrun started.

Their output is divided: rank 0 speaks to the user, the rest lies in `ranks/<rank>.log` of the run's
directory.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from pathlib import Path

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import RankError
from pipeline.records import Checkpoint, ShardSet
from pipeline.train.finished import finished

LOGS = "ranks"
VARIABLES = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}


def under_torchrun() -> bool:
    """Whether torchrun, or what sets the same variables, started this process as one of several."""
    return set(os.environ) >= VARIABLES


def train_as_rank(config: Config, work: Path, shard_set: ShardSet, directory: Path) -> Checkpoint:
    """Train in `directory` together with the other ranks; each returns the record.

    Raises:
        CaptionmillError: as `pipeline.train.train`.
        RankError: another rank was lost.
    """
    from pipeline.train.distributed import Group, lost_another

    try:
        ranks = Group(config.device)
        with storage.lock(directory) if ranks.first else contextlib.nullcontext():
            if not ranks.told(finished(directory) is not None):
                if ranks.first:
                    storage.remove_temporaries(directory)
                from pipeline.train.run import TrainingRun

                record = TrainingRun(config, work, shard_set, directory, ranks).finish()
                if record is not None:
                    record.save(directory / "record.json")
                    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
            ranks.leave()
    except RuntimeError as error:
        if not lost_another(error):
            raise
        raise RankError(
            f"rank {os.environ['RANK']} lost another rank ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); its log says why. Run the same command again to go on "
            "from the last checkpoint"
        ) from error
    return Checkpoint.load(directory / "record.json")


def divide_output(log: Path, rank: int, spoken: int = 2) -> None:
    """From here on libraries write to `log`, and what rank 0 says goes to the descriptor `spoken`.

    Native code writes to the descriptors 1 and 2, and much of that is no user's concern; Python's
    streams are what is meant to be read, of rank 0. Other ranks' go to their logs too.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    if rank == 0:
        for name, descriptor in (("stdout", 1), ("stderr", spoken)):
            stream = open(os.dup(descriptor), "w", encoding="utf-8", buffering=1)  # noqa: SIM115
            setattr(sys, name, stream)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)
