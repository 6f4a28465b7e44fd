"""One run a GPU at a time: a stage holds the GPUs it calculates on, and no longer than it does.

Holds are files `WORK/gpus/UUID.lock`, so they count for every process that shares the work
directory, under a worker or not, and a killed one holds nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flows.direct import prepare_torch
from flows.runs import this_run
from flows.turns import turn
from pipeline.config import Config


@contextlib.contextmanager
def hold_gpus(settings: Config, work: Path, devices: int = 1) -> Iterator[None]:
    """Wait for the first `devices` GPUs that the settings choose; nothing to wait for on a CPU."""
    prepare_torch(settings)
    from pipeline.predict import choose_device

    device = choose_device(settings.device)
    with contextlib.ExitStack() as held:
        if device.type == "cuda":
            first = device.index or 0
            # In one order everywhere, so that two runs never wait for each other.
            for name in sorted(_uuid(index) for index in range(first, first + devices)):
                path = work.absolute() / "gpus" / f"{name}.lock"
                held.enter_context(turn(path, this_run(), f"GPU {name}"))
        yield


def _uuid(index: int) -> str:
    import torch

    return str(torch.cuda.get_device_properties(index).uuid)
