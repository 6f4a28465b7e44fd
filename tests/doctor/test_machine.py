"""A container's limits, as the kernel's files tell them, and a real limit of this process."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.doctor import Finding, Inputs, machine

GB = 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(
        f"MemTotal: {64 * GB // 1024} kB\nMemAvailable: {32 * GB // 1024} kB\n"
    )
    (tmp_path / "sys/fs/cgroup/box/job").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/box/job\n")
    (tmp_path / "dev/shm").mkdir(parents=True)
    return tmp_path


def found(root: Path, subject: str) -> Finding:
    (finding,) = [
        each for each in machine.check(Inputs(work="/w"), root) if each.subject == subject
    ]
    return finding


def test_a_quota_above_this_group_is_seen(root: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    assert found(root, "cores").status == "ok"
    (root / "sys/fs/cgroup/box/cpu.max").write_text("50000 100000\n")
    (root / "sys/fs/cgroup/box/job/cpu.max").write_text("max 100000\n")
    finding = found(root, "cores")
    assert finding.status == "warning"
    assert f"{cores} are seen, but the container may use 0.5" in finding.text
    assert "--set threads=1" in finding.mend


def test_a_quota_of_the_first_version_is_seen(root: Path) -> None:
    old = root / "sys/fs/cgroup/cpu"
    old.mkdir()
    (old / "cpu.cfs_quota_us").write_text("-1\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    assert found(root, "cores").status == "ok"
    (old / "cpu.cfs_quota_us").write_text("25000\n")
    assert "may use 0.25" in found(root, "cores").text


@pytest.mark.parametrize(
    ("limit", "used", "status"), [(16, 2, "ok"), (4, 2, "warning"), (2, 1.5, "wrong")]
)
def test_memory_is_what_the_container_has_left(
    root: Path, limit: float, used: float, status: str
) -> None:
    box = root / "sys/fs/cgroup/box"
    (box / "memory.max").write_text(f"{int(limit * GB)}\n")
    (box / "memory.current").write_text(f"{int(used * GB)}\n")
    finding = found(root, "memory")
    assert finding.status == status
    assert (
        finding.text == f"{limit - used:.1f} of {limit:.1f} GiB available (the container's limit)"
    )


def test_memory_without_a_limit_is_the_machines(root: Path) -> None:
    assert found(root, "memory").text == "32.0 of 64.0 GiB available"


@pytest.fixture
def few_files() -> Iterator[None]:
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Other tests of this process may hold some hundred.
    resource.setrlimit(resource.RLIMIT_NOFILE, (1023, former[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, former)


@pytest.mark.usefixtures("few_files")
def test_a_low_limit_on_open_files_is_a_warning(root: Path) -> None:
    finding = found(root, "open files")
    assert (finding.status, finding.text) == ("warning", "a process may have 1023")


def test_a_system_without_these_files_is_no_error(tmp_path: Path) -> None:
    findings = list(machine.check(Inputs(work="/w"), tmp_path))
    assert {each.subject for each in findings} == {"cores", "open files"}
