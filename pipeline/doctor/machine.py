"""Cores, memory, shared memory and open files, as the container lets this process have them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong

GB = 1 << 30
LEAST_MEMORY, ENOUGH_MEMORY = 1 * GB, 4 * GB
"""Available bytes: below the first torch and a small model do not fit; below the second not much does."""
ENOUGH_SHARED = 256 << 20
"""Docker gives 64 MiB; ranks on several GPUs exchange gradients through it."""
ENOUGH_FILES = 1024


def check(inputs: Inputs, root: Path = Path("/")) -> Iterator[Finding]:
    """Look at `root`'s /proc and /sys."""
    del inputs
    yield _cores(root)
    yield from _memory(root)
    yield from _shared(root / "dev" / "shm")
    yield _files()


def _cores(root: Path) -> Finding:
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    if quota is None or quota >= seen:
        return ok("cores", f"{seen}")
    threads = max(1, int(quota))
    return warning(
        "cores",
        f"{seen} are seen, but the container may use {quota:g}: threads would be in each other's way",
        f"--set threads={threads} (or OMP_NUM_THREADS={threads}), or raise the container's limit",
    )


def _quota(root: Path) -> float | None:
    """Cores by the cgroup's quota, version 2 or 1; none without a limit."""
    shares = []
    for folder in _groups(root):
        words = _words(folder / "cpu.max")
        if len(words) == 2 and words[0] != "max":
            shares.append(int(words[0]) / int(words[1]))
    old = root / "sys/fs/cgroup/cpu"
    quota, period = _words(old / "cpu.cfs_quota_us"), _words(old / "cpu.cfs_period_us")
    if quota and period and int(quota[0]) > 0:
        shares.append(int(quota[0]) / int(period[0]))
    return min(shares, default=None)


def _groups(root: Path) -> Iterator[Path]:
    """This process's control group (version 2) and those above it."""
    top = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        number, _, path = line.partition("::")
        if number == "0":
            own = top / path.strip("/")
            yield from [own, *(above for above in own.parents if above.is_relative_to(top))]


def _memory(root: Path) -> Iterator[Finding]:
    facts = {}
    for line in _lines(root / "proc/meminfo"):
        name, _, value = line.partition(":")
        facts[name] = int(value.split()[0]) * 1024
    if "MemAvailable" not in facts:
        return  # not Linux
    total, free, whose = facts["MemTotal"], facts["MemAvailable"], ""
    for folder in [*_groups(root), root / "sys/fs/cgroup/memory"]:
        limit = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
        used = _words(folder / "memory.current") or _words(folder / "memory.usage_in_bytes")
        if limit and used and limit[0] != "max" and int(limit[0]) < total:
            total, whose = int(limit[0]), " (the container's limit)"
            free = min(free, max(0, total - int(used[0])))
    text = f"{free / GB:.1f} of {total / GB:.1f} GiB available{whose}"
    mend = "end other programs, raise the container's limit, or take smaller batches"
    if free < LEAST_MEMORY:
        yield wrong("memory", text, mend)
    elif free < ENOUGH_MEMORY:
        yield warning("memory", text, mend)
    else:
        yield ok("memory", text)


def _shared(place: Path) -> Iterator[Finding]:
    try:
        found = os.statvfs(place)
    except OSError:
        return  # not Linux
    size = found.f_blocks * found.f_frsize
    text = f"{size / GB:.2f} GiB in {place}"
    if size < ENOUGH_SHARED:
        mend = "give the container more (--shm-size=1g), or train on one GPU"
        yield warning("shared memory", text, mend)
    else:
        yield ok("shared memory", text)


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < ENOUGH_FILES:
        most = "unlimited" if hard < 0 else str(hard)
        mend = f"ulimit -n {ENOUGH_FILES} (at most {most} here)"
        return warning("open files", f"a process may have {soft}", mend)
    return ok("open files", "no limit" if soft < 0 else f"{soft:,} a process")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _words(file: Path) -> list[str]:
    lines = _lines(file)
    return lines[0].split() if lines else []
