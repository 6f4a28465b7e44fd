"""The learning rate over a run."""

from __future__ import annotations

import pytest

from pipeline.config import load_config
from pipeline.train.schedule import Schedule


def shares(*options, epochs=4, steps=10):
    config = load_config(None, [f"train.epochs={epochs}", *(f"train.{o}" for o in options)])
    schedule = Schedule(config.train, steps)
    return [schedule.share(step) for step in range(epochs * steps + 1)]


@pytest.mark.parametrize("kind", ["cosine", "step", "constant"])
def test_warm_up_rises_in_a_line_to_the_peak(kind):
    found = shares("warmup_steps=5", f"schedule.kind={kind}")
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_a_cosine_falls_to_its_floor():
    found = shares("warmup_steps=0", "schedule.floor=0.1")
    assert (found[0], found[20], found[40]) == pytest.approx((1.0, 0.55, 0.1))
    assert found == sorted(found, reverse=True)


def test_steps_fall_every_so_many_epochs():
    found = shares(
        "warmup_steps=0", "schedule={kind: step, every_epochs: 2, factor: 0.5}", epochs=5
    )
    assert [found[0], found[19], found[20], found[39], found[40]] == [1, 1, 0.5, 0.5, 0.25]


def test_a_constant_stays():
    assert set(shares("warmup_steps=0", "schedule.kind=constant")) == {1.0}
