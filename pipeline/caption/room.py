"""How the cores, the memory and the GPUs of a machine are shared among captioning processes."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PROCESSES = 8
"""Most processes that share a machine's cores unasked; each holds a model."""

READERS = 16
"""Most threads of a process that read and decode; decoding leaves Python's lock."""

SPARED = 0.2
"""Share of the available memory that is left to others."""

_CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """Cores that this process may use: of those it may run on, what its container is given."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with contextlib.suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()  # "max" where there is no quota
        return max(1, min(mine or 1, -(-int(quota) // int(period))))
    return mine or 1


def model_threads() -> int:
    """Threads that a model calculates with on a CPU, if nobody says otherwise.

    It depends on the machine alone, and not on how many processes there are: it moves the last
    bits of a score, and rows must not tell who made them.
    """
    return -(-cores() // PROCESSES)


def room(kind: str, threads: int) -> int:
    """Processes like this one that the machine has room for: one a GPU, or one a group of cores.

    Args:
        kind: of device that the model is on: cpu, cuda, mps.
        threads: that it calculates with on a CPU.
    """
    if kind == "cuda":
        import torch

        return max(1, torch.cuda.device_count())
    if kind != "cpu":
        return 1
    return max(1, min(cores() // threads, by_memory(_resident(), _available())))


def by_memory(own: int | None, available: int | None) -> int:
    """Processes of `own` bytes that there is memory for, if one of them is there already."""
    if not own or available is None:
        return PROCESSES
    return 1 + int(available * (1 - SPARED)) // own


def readers(processes: int) -> int:
    """Threads that read and decode, in each of so many processes."""
    return max(1, min(READERS, cores() // max(1, processes)))


def _resident() -> int | None:
    """Bytes of memory of this process; None where the system does not say."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None


def _available() -> int | None:
    """Bytes of memory that may still be taken, of the machine and of the container."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        most = int((_CGROUP / "memory.max").read_text())
        found.append(max(0, most - int((_CGROUP / "memory.current").read_text())))
    return min(found, default=None)
