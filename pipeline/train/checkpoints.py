"""Checkpoints of a run in progress: whole directories, the newest good one wins.

    checkpoints/000000123/{model.safetensors, captioner.json, ..., training.safetensors, training.json}

A checkpoint holds all that decides what comes next: model, optimiser, random states, position,
best score. A run that was killed and started again continues as if it had not been.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pipeline import storage
from pipeline.errors import ModelError
from pipeline.models.saved import SavedCaptioner
from pipeline.progress import say


class Position(BaseModel):
    """Where a run stands: the next step to take, and what was best so far."""

    model_config = ConfigDict(extra="forbid")

    epoch: int = 0
    """Epochs finished, the number of the one in progress."""
    batch: int = 0
    """Batches of the epoch in progress that are done."""
    step: int = 0
    loss_sum: float = 0.0
    """Of the epoch in progress, weighted by words."""
    loss_words: int = 0
    best_cider: float | None = None
    best_step: int | None = None
    """The checkpoint with the best validation CIDEr."""
    best_epoch: int | None = None
    epochs_without_gain: int = 0
    finished: bool = False


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory = directory
        self.keep = keep
        directory.mkdir(parents=True, exist_ok=True)
        storage.remove_temporaries(directory)

    def path(self, step: int) -> Path:
        """The directory of a step's checkpoint."""
        return self.directory / f"{step:09d}"

    def save(
        self, saved: SavedCaptioner, optimiser: torch.optim.Optimizer, position: Position
    ) -> None:
        """Commit a checkpoint, then drop old ones; the best and the newest `keep` stay."""
        with storage.commit_directory(self.path(position.step)) as directory:
            saved.save(directory)
            tensors = {**_optimiser_tensors(optimiser), **_random_states()}
            storage.commit(directory / "training.safetensors", save(tensors))
            storage.commit_json(directory / "training.json", position.model_dump())
        self._prune(position)

    def resume(self, saved: SavedCaptioner, optimiser: torch.optim.Optimizer) -> Position:
        """Load the newest good checkpoint into `saved` and `optimiser`; none: a fresh position."""
        for directory in sorted(self._all(), reverse=True):
            try:
                loaded = SavedCaptioner.load(directory)
                tensors = load_file(directory / "training.safetensors")
                position = Position.model_validate(storage.read_json(directory / "training.json"))
            except (ModelError, SafetensorError, OSError, ValueError) as error:
                say("train", f"{directory.name} is damaged and passed over: {error}")
                continue
            saved.model.load_state_dict(loaded.model.state_dict())
            _restore_optimiser(optimiser, tensors)
            _restore_random_states(tensors)
            return position
        return Position()

    def _all(self) -> list[Path]:
        return [p for p in self.directory.iterdir() if p.name.isdigit()]

    def _prune(self, position: Position) -> None:
        # Those of later steps were damaged and passed over; the run comes by there again.
        present = self.path(position.step)
        kept = {p.name for p in sorted(p for p in self._all() if p <= present)[-self.keep :]}
        if position.best_step is not None:
            kept.add(self.path(position.best_step).name)
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


def _random_states() -> dict[str, Tensor]:
    states = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        for index, value in enumerate(torch.cuda.get_rng_state_all()):
            states[f"random.cuda.{index}"] = value
    if torch.backends.mps.is_available():
        states["random.mps"] = torch.mps.get_rng_state()
    return states


def _restore_random_states(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random.cpu"])
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            if (value := tensors.get(f"random.cuda.{index}")) is not None:
                torch.cuda.set_rng_state(value, index)
    if torch.backends.mps.is_available() and "random.mps" in tensors:
        torch.mps.set_rng_state(tensors["random.mps"])
