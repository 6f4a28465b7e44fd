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
def hold_gpus(settings: Config, work: Path, devices: int | None = 1) -> Iterator[None]:
    """Wait for the GPUs that a stage will use; on a CPU there is nothing to wait for.

    Args:
        settings: their `device` says which is the first.
        work: the work directory.
        devices: how many; None: all that this process sees, unless the settings name one.
    """
    prepare_torch(settings)
    from pipeline.predict import choose_device

    device = choose_device(settings.device)
    with contextlib.ExitStack() as held:
        if device.type == "cuda":
            first = device.index or 0
            if devices is None:
                devices = 1 if device.index is not None else _seen()
            # In one order everywhere, so that two runs never wait for each other.
            for name in sorted(_uuid(index) for index in range(first, first + devices)):
                path = work.absolute() / "gpus" / f"{name}.lock"
                held.enter_context(turn(path, this_run(), f"GPU {name}"))
        yield


def _seen() -> int:
    import torch

    return torch.cuda.device_count()


def _uuid(index: int) -> str:
    import torch

    return str(torch.cuda.get_device_properties(index).uuid)
