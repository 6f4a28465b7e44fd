"""The hostile corpus: every input ends as a row or a typed skip, in bounded memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline.caption import caption, verify
from pipeline.caption.members import FAILED, SKIPPED
from pipeline.config import CaptionConfig
from pipeline.images import CODES

MOST_MEMORY = 1200
"""MB above what a small picture takes. 144,000,000 pixels as RGB are 576 MB in Pillow."""
MOST_SECONDS = 20
"""Of CPU, a case; the slowest takes two or three."""


def _run(task: str, folder: Path) -> str:
    script = Path(__file__).with_name("hostile_run.py")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script), task, str(folder)],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    # A negative code is a signal: something crashed, or took all memory.
    assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-3000:])
    # Libraries keep their warnings and tracebacks to themselves.
    assert done.stderr == ""
    return done.stdout


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "corpus"
    _run("build", folder)
    return folder


@pytest.fixture(scope="module")
def found(corpus: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _run("read", corpus).splitlines()]


@pytest.fixture(scope="module")
def cases(corpus: Path, load_beside: Callable[[str], ModuleType]) -> tuple[Any, Any]:
    return load_beside("hostile_images").CASES, load_beside("hostile_archives").CASES


def test_there_are_enough_kinds_and_mutations(found: list[dict[str, Any]]) -> None:
    kinds = Counter(case["kind"] for case in found)
    assert kinds["image"] + kinds["archive"] >= 150
    assert kinds["mutated"] + kinds["spliced"] >= 600


def test_every_picture_ends_as_it_must(found: list[dict[str, Any]], cases: Any) -> None:
    images, _ = cases
    wrong = {
        case["name"]: (case["ends"], images[case["name"]][1])
        for case in found
        if case["kind"] == "image" and case["ends"][0] not in images[case["name"]][1]
    }
    assert wrong == {}


def test_every_archive_ends_as_it_must(found: list[dict[str, Any]], cases: Any) -> None:
    _, archives = cases
    wrong = {
        case["name"]: (Counter(case["ends"]), Counter(archives[case["name"]][1]))
        for case in found
        if case["kind"] == "archive" and sorted(case["ends"]) != sorted(archives[case["name"]][1])
    }
    assert wrong == {}


def test_every_mutation_ends_in_a_known_way(found: list[dict[str, Any]]) -> None:
    known = {"picture", "refused", *FAILED, *SKIPPED, *CODES}
    ends = Counter(end for case in found for end in case["ends"])
    assert set(ends) <= known, ends
    # What is changed is not all refused, nor all read.
    mutated = [case["ends"] for case in found if case["kind"] in ("mutated", "spliced")]
    assert len(mutated) / 10 < sum("picture" in ends for ends in mutated) < len(mutated) * 0.9
    assert all(ends for ends in mutated)


def test_memory_and_time_are_bounded(found: list[dict[str, Any]]) -> None:
    peak, grown = 0, {}
    for case in found:
        if case["peak"] > peak + 50:
            grown[case["name"]] = case["peak"]
        peak = max(peak, case["peak"])
    assert peak < MOST_MEMORY, grown
    slow = {case["name"]: case["seconds"] for case in found if case["seconds"] > MOST_SECONDS}
    assert slow == {}


def test_a_table_of_all_of_it_accounts_for_every_one(
    corpus: Path,
    found: list[dict[str, Any]],
    tmp_path: Path,
    stub: Callable[..., Any],
    rows: Callable[[Path], list[dict[str, Any]]],
) -> None:
    refused = {
        case["name"] for case in found if case["ends"] == ["refused"] and case["kind"] == "spliced"
    }
    spliced = [p for p in sorted((corpus / "spliced").iterdir()) if p.name not in refused]
    archives = [corpus / "images", corpus / "mutated", *spliced]
    table = tmp_path / "table"
    config = CaptionConfig(unit_size=500, batch_size=16)
    report = caption(config, archives, table, stub())
    assert report.balanced() and verify(table).discovered == report.discovered
    ends = Counter(
        end
        for case in found
        if case["kind"] in ("image", "mutated", "spliced")
        for end in case["ends"]
        if end != "refused"
    )
    kept = rows(table)
    assert Counter(row["error_code"] or "picture" for row in kept) == ends
    assert all(row["caption"] or row["error"] for row in kept)
    # Library messages, with their addresses, stay out of the table.
    assert not [row["error"] for row in kept if "0x" in (row["error"] or "")]
