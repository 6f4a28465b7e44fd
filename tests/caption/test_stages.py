"""Which stage a run waits for, in the line of progress and in the report."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import caption
from pipeline.caption.stages import STAGES, Stages, bottleneck
from pipeline.config import CaptionConfig


@pytest.mark.parametrize(
    ("seconds", "threads", "slowest"),
    [
        ({}, {}, None),
        ({"read": 1.0, "decode": 3.0, "search": 2.0}, {}, "decode"),
        # Four threads decode: nine of their seconds are less than three of the model's.
        ({"read": 1.0, "decode": 9.0, "search": 3.0}, {"read": 4, "decode": 4}, "search"),
        # Encoding and searching take turns, and together hold up the rest.
        ({"decode": 3.0, "encode": 2.0, "search": 2.5}, {}, "search"),
        ({"search": 1.0, "write": 2.0}, {}, "write"),
    ],
)
def test_the_longest_stage_of_the_busiest_threads_is_the_bottleneck(
    seconds: dict[str, float], threads: dict[str, int], slowest: str | None
) -> None:
    assert bottleneck(seconds, threads) == slowest


def test_seconds_are_counted_once_and_handed_over() -> None:
    stages, others = Stages(), Stages()
    others.span("read", 10.0, 11.0)
    others.span("search", 10.5, 12.5)
    stages.span("read", 11.0, 11.5)
    taken = others.take()
    assert taken == {"seconds": {"read": 1.0, "search": 2.0}}
    stages.add(json.loads(json.dumps(taken)))
    assert stages.report() == {"read": 1.5, "decode": 0, "encode": 0, "search": 2.0, "write": 0}
    assert others.take() == {"seconds": {}}
    with pytest.raises(ValueError, match="x"), stages.busy("decode"):
        raise ValueError("x")
    assert stages.take()["seconds"]["decode"] > 0


def test_of_a_recording_one_it_is_known_when_which_process_was_busy() -> None:
    stages, others = Stages(), Stages()
    others.record(readers=3)
    others.span("read", 100.0, 100.5)
    stages.add(json.loads(json.dumps(others.take())))
    others.span("read", 101.0, 101.25)
    stages.add(others.take())
    (recorded,) = stages.recorded.values()
    assert recorded.readers == 3
    assert recorded.cpu > 0
    assert recorded.timeline.seconds() == pytest.approx({"read": 0.75})
    assert recorded.timeline.extent("read") == pytest.approx((100.0, 101.3), abs=0.06)
    assert stages.report()["read"] == 0.75


def test_the_line_of_progress_and_the_report_name_the_slowest_stage(
    folder: Path, tmp_path: Path, stub: Any, capfd: pytest.CaptureFixture[str],
    report: Callable[[Path], dict[str, Any]],
) -> None:  # fmt: skip
    (folder / "bad.jpg").write_bytes(b"")
    config = CaptionConfig(unit_size=4, batch_size=3)
    found = caption(config, [folder], tmp_path / "t", stub(seconds=0.3))
    printed = capfd.readouterr().err
    assert re.search(
        r"^caption 11/11 img  [\d.]+ img/s  1 failed  bottleneck search$", printed, re.M
    )
    saved = report(tmp_path / "t")
    assert (saved["engine"], saved["bottleneck"]) == ("in process", "search")
    assert list(found.stage_seconds) == list(STAGES)
    assert found.stage_seconds["search"] > 1.0
    assert json.loads(json.dumps(saved["stage_seconds"])) == found.stage_seconds
