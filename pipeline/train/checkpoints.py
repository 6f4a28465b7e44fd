"""Checkpoints of a run in progress: whole directories, the newest good one wins.

    checkpoints/000000123/{model.safetensors, captioner.json, ..., training.safetensors, training.json}

The captioner in it is the one that is validated; with a moving average the model's own weights lie
in training.safetensors. A checkpoint holds all that decides what comes next: model, optimiser,
average, every rank's random states, loss scale, position, scores. A run that was killed and started again
continues as if it had not been.

Pruning: the newest `keep` stay, the best epoch's, that from which a second phase started, and those
that are to be averaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from pipeline import storage
from pipeline.config_recipe import AverageConfig
from pipeline.errors import ModelError
from pipeline.models.saved import SavedCaptioner
from pipeline.progress import say
from pipeline.train import random_states
from pipeline.train.average import MovingAverage
from pipeline.train.distributed import Ranks
from pipeline.train.position import EpochScore, Position


@dataclass
class TrainingState:
    """Everything that a step changes."""

    saved: SavedCaptioner
    optimiser: torch.optim.Optimizer
    average: MovingAverage | None = None
    scaler: torch.amp.GradScaler | None = None
    """Of fp16's gradients."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.saved.model.parameters()).device

    def validated(self) -> contextlib.AbstractContextManager[Any]:
        """While it lasts the model has the weights that are validated and kept."""
        return self.average.applied() if self.average is not None else contextlib.nullcontext({})


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(
        self,
        directory: Path,
        keep: int,
        average: AverageConfig | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.directory, self.keep = directory, keep
        self.average, self.ranks = average or AverageConfig(), ranks or Ranks()
        directory.mkdir(parents=True, exist_ok=True)
        if self.ranks.first:
            storage.remove_temporaries(directory)

    def path(self, step: int) -> Path:
        """The directory of a step's checkpoint."""
        return self.directory / f"{step:09d}"

    def save(self, state: TrainingState, position: Position) -> None:
        """Commit a checkpoint, then drop old ones; all ranks call it, and go on when it is there."""
        states = random_states.collect(self.ranks, state.device)
        if self.ranks.first:
            self._commit(state, position, states)
        self.ranks.wait()

    def _commit(self, state: TrainingState, position: Position, states: dict[str, Tensor]) -> None:
        with storage.commit_directory(self.path(position.step)) as directory:
            with state.validated() as own:
                state.saved.save(directory)
            tensors = {**_optimiser_tensors(state.optimiser), **states}
            tensors |= {f"own.{name}": value.cpu().contiguous() for name, value in own.items()}
            data = save(tensors)
            storage.commit(directory / "training.safetensors", data)
            storage.commit_json(
                directory / "training.json",
                {
                    "position": position.model_dump(),
                    "scaler": None if state.scaler is None else state.scaler.state_dict(),
                    "sha256": hashlib.sha256(data).hexdigest(),
                },
            )
        self._prune(position)

    def load(self, score: EpochScore) -> SavedCaptioner:
        """The captioner of an epoch's end.

        Raises:
            ModelError: its checkpoint is lost or damaged.
        """
        try:
            return SavedCaptioner.load(self.path(score.step))
        except ModelError as error:
            raise ModelError(
                f"the checkpoint of epoch {score.epoch} is lost: {error}. "
                f"Delete {self.directory.parent} and train again"
            ) from None

    def resume(self, state: TrainingState) -> Position:
        """Load the newest good checkpoint into `state`; none: a fresh position.

        Raises:
            ModelError: a checkpoint of another architecture, or ranks that see different ones.
        """
        position = self._newest(state)
        steps = self.ranks.gather(position.step)
        if len(set(steps)) > 1:
            raise ModelError(
                f"the ranks see different checkpoints in {self.directory} (of the steps "
                f"{', '.join(map(str, steps))}); every machine needs the same work directory, on "
                "storage that they share"
            )
        return position

    def _newest(self, state: TrainingState) -> Position:
        for directory in sorted(self._all(), reverse=True):
            try:
                loaded = SavedCaptioner.load(directory)
                training = storage.read_json(directory / "training.json")
                data = (directory / "training.safetensors").read_bytes()
                if hashlib.sha256(data).hexdigest() != training["sha256"]:
                    raise ValueError("training.safetensors is not what was written")
                tensors = load(data)
                position = Position.model_validate(training["position"])
            except (ModelError, SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                say("train", f"{directory.name} is damaged and passed over: {error}")
                continue
            if loaded.architecture != state.saved.architecture:
                raise ModelError(
                    f"the checkpoint {directory} is of another architecture than these settings; "
                    f"delete {self.directory} to start anew"
                )
            if self.ranks.first:
                self._warn(position)
            self._restore(state, loaded, tensors, training["scaler"])
            return position
        if not self.ranks.first:
            random_states.derive(torch.get_rng_state(), self.ranks.rank)
        return Position()

    def _restore(
        self,
        state: TrainingState,
        loaded: SavedCaptioner,
        tensors: dict[str, Tensor],
        scaler: dict[str, Any] | None,
    ) -> None:
        state.saved.model.load_state_dict(loaded.model.state_dict())
        if state.average is not None:
            own = {name[4:]: value for name, value in tensors.items() if name.startswith("own.")}
            state.average.restore(own)
        _restore_optimiser(state.optimiser, tensors)
        if state.scaler is not None and scaler is not None:
            state.scaler.load_state_dict(scaler)
        random_states.restore(tensors, self.ranks, state.device)

    def _all(self) -> list[Path]:
        return [p for p in self.directory.iterdir() if p.name.isdigit()]

    def _warn(self, position: Position) -> None:
        """Say which epochs' ends are lost: better ones may come, or this run cannot end."""
        for score in sorted(self._needed(position), key=lambda score: score.epoch):
            try:
                self.load(score)
            except ModelError as error:
                say("train", f"unless later epochs are better, this run cannot end: {error}")

    def _needed(self, position: Position) -> set[EpochScore]:
        """The epochs whose captioners the end of the run may ask for."""
        averaged = position.ranked(self.average.count, self.average.of)
        needed = {position.best, position.reference, *(averaged if self.average.count > 1 else [])}
        return {score for score in needed if score is not None}

    def _prune(self, position: Position) -> None:
        # Those of later steps were damaged and passed over; the run comes by there again.
        present = self.path(position.step)
        kept = {p.name for p in sorted(p for p in self._all() if p <= present)[-self.keep :]}
        kept |= {self.path(score.step).name for score in self._needed(position)}
        for path in self._all():
            if path.name not in kept:
                shutil.rmtree(path)


def _optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    state = optimiser.state_dict()["state"]
    return {
        f"optimiser.{index}.{name}": value.detach().cpu().clone().contiguous()
        for index, entry in state.items()
        for name, value in entry.items()
    }


def _restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        kind, _, rest = key.partition(".")
        if kind == "optimiser":
            index, name = rest.split(".")
            state.setdefault(int(index), {})[name] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
