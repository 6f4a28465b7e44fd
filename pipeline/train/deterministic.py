"""The same bits every time, on the CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.deterministic


@contextlib.contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On the CPU, only algorithms that give the same bits every time."""
    former = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # its switch is not in its types
    filled = memory.fill_uninitialized_memory
    if device.type == "cpu":
        torch.use_deterministic_algorithms(True)
        # Nothing here reads memory that was not written; filling it costs time.
        memory.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(former)
        memory.fill_uninitialized_memory = filled
