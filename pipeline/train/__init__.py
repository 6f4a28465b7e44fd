"""The train stage: a shard set in, the best checkpoint out."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import DataError, TrackingAwayError
from pipeline.progress import say
from pipeline.records import Checkpoint, ShardSet
from pipeline.tracking import Outbox, Tracker
from pipeline.train.delivery import deliver, samples
from pipeline.train.finished import finished
from pipeline.train.identity import fingerprint
from pipeline.train.rank import LOGS, divide_output, train_as_rank, under_torchrun

__all__ = ["find_checkpoint", "fingerprint", "train"]


def train(config: Config, work: Path, shard_set: ShardSet) -> Checkpoint:
    """Train to the best validation CIDEr; resumes where a killed run stopped.

    On one device in this process; on `train.devices` by ranks that torchrun starts. In a process that
    a user's own torchrun started it is one rank of those, and only rank 0 speaks.

    Raises:
        ConfigError: a setting that cannot work, or a split that the shard set lacks.
        WeightsError: an encoder weights file that does not fit.
        BusyError: another run is training the same thing.
        RankError: one of several ranks died.
    """
    directory = _directory(config, work, shard_set)
    done, rank = finished(directory), int(os.environ["RANK"]) if under_torchrun() else None
    if rank is not None:
        divide_output(directory / LOGS / f"{rank}.log", rank)
    if done is not None and not rank:
        best = "" if done.validation_cider is None else f", CIDEr {done.validation_cider:.1f}"
        say("train", f"nothing new: epoch {done.epoch}{best} ({directory})")
        _deliver(work, directory, done)
        _remove_checkpoints(directory)  # where the run was killed behind its end
    if rank is not None:
        return train_as_rank(config, work, shard_set, directory)
    if done is not None:
        return done
    if (directory / "record.json").exists():
        say("train", f"the model in {directory} is incomplete or damaged: it is trained again")
    from pipeline.train.launch import devices_asked_for, launch

    if (devices := devices_asked_for(config)) == 1:
        return _train_alone(config, work, shard_set, directory)
    launch(config, work, shard_set, directory, devices)
    return Checkpoint.load(directory / "record.json")


def _train_alone(config: Config, work: Path, shard_set: ShardSet, directory: Path) -> Checkpoint:
    with storage.lock(directory):
        if (done := finished(directory)) is not None:
            return done
        storage.remove_temporaries(directory)
        from pipeline.train.run import TrainingRun

        record = TrainingRun(config, work, shard_set, directory).finish()
        assert record is not None, "rank 0 has it"
        record.save(directory / "record.json")
        _remove_checkpoints(directory)
        return record


def _remove_checkpoints(directory: Path) -> None:
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)


def _deliver(work: Path, directory: Path, done: Checkpoint) -> None:
    """Send what the tracking server did not take while the run went on; it may still be away."""
    outbox = Outbox(directory)
    if done.run_id is None or not len(outbox):
        return
    delivered, names = False, list(samples(directory).values())
    with (
        contextlib.suppress(TrackingAwayError),
        Tracker(work).run("train", f"train-{done.fingerprint}", done.fingerprint) as run,
    ):
        delivered = deliver(run, outbox, directory, names)
    waiting = f"MLflow does not answer: {len(outbox)} metrics still wait for it"
    say("train", "metrics and captions delivered" if delivered else waiting)


def find_checkpoint(config: Config, work: Path, shard_set: ShardSet) -> Checkpoint:
    """The finished checkpoint of these settings.

    Raises:
        DataError: there is none yet.
    """
    directory = _directory(config, work, shard_set)
    found = finished(directory)
    if found is None:
        raise DataError(
            f"no finished checkpoint of these settings in {directory}; run `captionmill train` first"
        )
    return found


def _directory(config: Config, work: Path, shard_set: ShardSet) -> Path:
    return (work / "train" / fingerprint(config, shard_set)).absolute()
