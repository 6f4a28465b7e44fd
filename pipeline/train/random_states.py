"""The random states of a run: kept with its checkpoints, one a rank.

Rank 0's are those of a process by itself, so that it and a group take each other's runs up. A rank
whose state was never kept (at the start, or when there are more ranks than before) derives its
own from rank 0's: other numbers, the same every time.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from pipeline.train.distributed import Ranks

CPU = "random.cpu"


def collect(ranks: Ranks, device: torch.device) -> dict[str, Tensor]:
    """Every rank's states, by name; all ranks call it."""
    if ranks.world == 1:
        return _own()
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    kept = {}
    for kind, state in states.items():
        for rank, value in enumerate(ranks.gather_tensors(state)):
            kept[_name(rank, kind)] = value
    return kept


def restore(tensors: dict[str, Tensor], ranks: Ranks, device: torch.device) -> None:
    """Go on with the states that `collect` gave, then or with another number of ranks."""
    if ranks.world == 1:
        _restore_own(tensors)
    elif _name(ranks.rank, "cpu") in tensors:
        torch.set_rng_state(tensors[_name(ranks.rank, "cpu")])
        if device.type == "cuda" and (kept := tensors.get(_name(ranks.rank, "cuda"))) is not None:
            torch.cuda.set_rng_state(kept, device)
    else:
        derive(tensors[CPU], ranks.rank)


def derive(first: Tensor, rank: int) -> None:
    """The states of a rank that has none, from the CPU state of rank 0."""
    digest = hashlib.sha256(first.numpy().tobytes() + str(rank).encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _name(rank: int, kind: str) -> str:
    if rank == 0:
        return CPU if kind == "cpu" else f"random.{kind}.0"
    return f"random.rank{rank}.{kind}"


def _own() -> dict[str, Tensor]:
    states = {CPU: torch.get_rng_state()}
    if torch.cuda.is_available():
        for index, value in enumerate(torch.cuda.get_rng_state_all()):
            states[f"random.cuda.{index}"] = value
    if torch.backends.mps.is_available():
        states["random.mps"] = torch.mps.get_rng_state()
    return states


def _restore_own(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors[CPU])
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            if (value := tensors.get(f"random.cuda.{index}")) is not None:
                torch.cuda.set_rng_state(value, index)
    if torch.backends.mps.is_available() and "random.mps" in tensors:
        torch.mps.set_rng_state(tensors["random.mps"])
