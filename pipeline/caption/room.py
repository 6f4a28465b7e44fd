"""How the cores and GPUs of a machine are shared among the captioning processes on it."""

from __future__ import annotations

import os

PROCESSES = 8
"""Most processes that share a machine's cores unasked; each holds a model."""

READERS = 16
"""Most threads of a process that read and decode; decoding leaves Python's lock."""


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def model_threads() -> int:
    """Threads that a model calculates with on a CPU, if nobody says otherwise.

    It depends on the machine alone, and not on how many processes there are: it moves the last
    bits of a score, and rows must not tell who made them.
    """
    return -(-cores() // PROCESSES)


def room(kind: str, threads: int) -> int:
    """Processes that this machine has room for: one a GPU, or one a group of cores.

    Args:
        kind: of device that the model is on: cpu, cuda, mps.
        threads: that it calculates with on a CPU.
    """
    if kind == "cpu":
        return max(1, cores() // threads)
    if kind == "cuda":
        import torch

        return max(1, torch.cuda.device_count())
    return 1


def readers(processes: int) -> int:
    """Threads that read and decode, in each of so many processes."""
    return max(1, min(READERS, cores() // max(1, processes)))
