"""Names of thousands of characters, by the ten thousand: the plan holds a bounded number of bytes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import caption, compact, plan_file, verify
from pipeline.caption.members import Member
from pipeline.config import CaptionConfig

PLAN = """
import resource, sys
from pathlib import Path
from types import SimpleNamespace
from pipeline.caption.members import Member
from pipeline.caption.plan import Plan, Relisted

names, length = int(sys.argv[2]), int(sys.argv[3])
archive = SimpleNamespace(
    kind="tar", members=lambda: (Member(f"{n:0{length}d}.jpg") for n in range(names))
)
source = SimpleNamespace(name="a", path="/a", archive=archive)
plan, relisted = Plan(Path(sys.argv[1])), Relisted()
plan.extend(source, 256, relisted, done=())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, sum(1 for _ in plan.unit_rows()))
"""


def peak(plan: Path, names: int, length: int) -> tuple[int, int]:
    """Most megabytes that planning took, and the units, in a process of its own."""
    words = [sys.executable, "-c", PLAN, str(plan), str(names), str(length)]
    found = subprocess.run(words, capture_output=True, text=True, check=True)
    megabytes, units = map(int, found.stdout.split())
    return megabytes, units


@pytest.mark.slow
def test_long_names_take_no_more_memory_than_many(tmp_path: Path) -> None:
    few, _ = peak(tmp_path / "few", 1000, 20)
    long, units = peak(tmp_path / "long", 30_000, 20_000)
    assert units >= 30_000 // 256
    # 600 MB of names, 32 of them at a time, in a few copies.
    assert long - few < 250


def test_chunks_end_at_a_number_and_at_a_number_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_file, "CHUNK_BYTES", 100)
    taken: list[int] = []

    def members(*lengths: int) -> Iterator[Member]:
        for length in lengths:
            taken.append(length)
            yield Member("é" * (length // 2))

    found = plan_file.chunks(members(60, 40, 10, 10, 10, 10, 300, 2), 4, lambda member: member)
    assert len(next(found)) == 2
    assert taken == [60, 40]  # nothing is listed ahead
    assert [len(chunk) for chunk in found] == [4, 1, 1]


def test_a_table_of_long_names_is_whole_and_cut_short_continues_alike(
    tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes], make_tar: Any,
    monkeypatch: pytest.MonkeyPatch, parts: Callable[[Path], dict[str, bytes]],
) -> None:  # fmt: skip
    monkeypatch.setattr(plan_file, "CHUNK_BYTES", 10_000)
    members = [(f"{'n' * 4000}/{n:02d}.jpg", picture(n)) for n in range(11)]
    tar = make_tar(tmp_path / "a.tar", members)
    assert caption(config, [tar], tmp_path / "t", stub()).captioned == 11
    assert len(list((tmp_path / "t" / "_plan").iterdir())) == 4
    verify(tmp_path / "t")
    for number in range(1, 4):
        again = tmp_path / f"cut-{number}"
        caption(config, [make_tar(tar, members[: 3 * number])], again, stub())
        make_tar(tar, members)
        caption(config, [tar], again, stub())
        assert parts(again) == parts(tmp_path / "t")
    compact(tmp_path / "t", tmp_path / "large", rows=100)
    assert verify(tmp_path / "large").captioned == 11
