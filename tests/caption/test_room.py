"""How many processes a machine has room for, and how many threads each."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.caption import room
from pipeline.caption.loader import Loader

GB = 1 << 30


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(room, "_available", lambda: None)
    return monkeypatch


@pytest.mark.parametrize(
    ("cores_here", "threads", "processes"),
    [(1, 1, 1), (2, 1, 2), (8, 1, 8), (12, 2, 6), (16, 2, 8), (64, 8, 8)],
)
def test_cores_are_shared_in_groups_that_depend_on_the_machine_alone(
    cores: pytest.MonkeyPatch, cores_here: int, threads: int, processes: int
) -> None:
    cores.setattr(room, "cores", lambda: cores_here)
    assert room.model_threads() == threads
    assert room.room("cpu", threads) == processes
    assert room.room("mps", threads) == 1
    assert room.readers(processes) * processes <= max(cores_here, processes)


def test_no_more_processes_than_there_is_memory_for(cores: pytest.MonkeyPatch) -> None:
    assert room.by_memory(2 * GB, 10 * GB) == 5
    assert room.by_memory(2 * GB, 1 * GB) == 1
    assert room.by_memory(None, 1 * GB) == room.PROCESSES
    cores.setattr(room, "cores", lambda: 8)
    cores.setattr(room, "_available", lambda: 0)
    assert room.room("cpu", 1) == 1


def test_a_container_s_share_of_the_cores_counts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert room.cores() == 64
    for quota, found in (("max 100000", 64), ("150000 100000", 2), ("50000 100000", 1)):
        (tmp_path / "cpu.max").write_text(quota)
        assert room.cores() == found


def test_a_loader_that_names_one_device_is_for_that_one() -> None:
    assert Loader(function="m:f", arguments={"device": "cuda:1"}).pinned
    assert not Loader(function="m:f", arguments={"device": "auto"}).pinned
    assert not Loader(function="m:f").pinned


def test_a_loader_tells_its_captioner_the_number_of_its_process_if_it_takes_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room, "told", lambda **arguments: arguments, raising=False)
    for arguments, told in (({"worker": 0}, {"worker": 3}), ({"x": 1}, {"x": 1})):
        loader = Loader(function="pipeline.caption.room:told", arguments=arguments)
        found: object = loader.load(3)
        assert found == told
