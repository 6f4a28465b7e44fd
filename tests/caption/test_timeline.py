"""When a process was busy with what."""

from __future__ import annotations

import json
import random
import time

import pytest

from pipeline.caption.timeline import MOST, SHORTEST, Timeline, now, process_began


def test_a_span_is_spread_over_the_stretches_that_it_touches() -> None:
    timeline = Timeline()
    timeline.add("read", 1.02, 1.17)
    timeline.add("read", 1.16, 1.18)
    assert timeline.stages["read"] == pytest.approx({20: 0.03, 21: 0.05, 22: 0.05, 23: 0.04})
    assert timeline.seconds() == pytest.approx({"read": 0.17})
    assert timeline.extent("read", "decode") == pytest.approx((1.0, 1.2))
    assert timeline.extent("decode") is None


def test_a_long_run_takes_no_more_room_than_a_short_one() -> None:
    timeline, long = Timeline(), 0.0
    for hour in range(100):
        timeline.add("encode", 3600.0 * hour, 3600.0 * hour + 60)
        long += 60
        # An earlier span may come later: another thread's.
        timeline.add("read", max(3600.0 * hour - 30, 0), 3600.0 * hour)
    assert len(timeline.stages["encode"]) <= MOST
    assert timeline.length > SHORTEST
    assert timeline.seconds()["encode"] == pytest.approx(long)


def test_taken_and_merged_nothing_is_lost_whatever_the_lengths() -> None:
    chance = random.Random(0)
    whole, merged, part = Timeline(), Timeline(), Timeline()
    at = 1_790_000_000.0
    for number in range(300):
        began = at + chance.random()
        ended = began + chance.random() * (20 if number % 7 else 0.001)
        stage = chance.choice(("read", "search"))
        whole.add(stage, began, ended)
        part.add(stage, began, ended)
        at += 3 * chance.random()
        if number % 50 == 49:
            merged.merge(json.loads(json.dumps(part.take())))
            assert part.seconds() == {}
    assert merged.seconds() == pytest.approx(whole.seconds(), abs=1e-3)
    assert merged.extent("read") == pytest.approx(whole.extent("read"), abs=2 * whole.length)


def test_a_coarse_one_makes_the_other_coarse() -> None:
    coarse, fine = Timeline(), Timeline()
    coarse.add("search", 0.0, 5000.0)
    fine.add("search", 10.0, 10.5)
    length = coarse.length
    fine.merge(coarse.take())
    assert fine.length == length
    assert fine.seconds() == pytest.approx({"search": 5000.5}, abs=1e-3)


def test_a_process_began_before_now_and_not_long_ago() -> None:
    assert abs(now() - time.time()) < 1
    assert 0 < now() - process_began() < 24 * 3600
