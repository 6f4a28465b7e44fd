from __future__ import annotations

import math

import pytest

from pipeline.config_promote import GuardsConfig, PromoteConfig
from pipeline.errors import ConfigError
from pipeline.promote.behaviour import (
    length_and_vocabulary,
    repeated_share,
    repeats,
    shared_share,
)
from pipeline.promote.gate import (
    behaviour_guards,
    decide,
    overlap_guard,
    require_enough_images,
    signature_guard,
    slice_guard,
)
from pipeline.records import Behaviour, Gain, Guard, SliceScore

NORMAL = Behaviour(
    length=10.0,
    vocabulary=400,
    repeated=0.02,
    unfinished=0.01,
    shared=0.1,
    misplaced=7.0,
    speed=20.0,
)


def gain(difference: float, p_value: float = 0.001) -> Gain:
    return Gain(difference=difference, low=difference - 1, high=difference + 1, p_value=p_value)


@pytest.mark.parametrize(
    ("difference", "p_value", "min_gain", "passed"),
    [
        (0.1, 0.01, 0.0, True),
        (0.0, 0.01, 0.0, False),
        (-1.0, 0.01, 0.0, False),
        (0.5, 0.01, 0.5, False),
        (0.6, 0.01, 0.5, True),
        (0.6, 0.05, 0.5, True),
        (5.0, 0.06, 0.5, False),
        (math.nan, 0.01, 0.0, False),
    ],
)
def test_a_gain_must_exceed_what_is_asked_and_not_be_chance(
    difference: float, p_value: float, min_gain: float, passed: bool
) -> None:
    settings = PromoteConfig(min_gain=min_gain)
    verdict = decide(
        settings,
        ("captioner/2", {"cider": 50.0 + difference}),
        ("captioner/1", {"cider": 50.0}),
        gain(difference, p_value),
        [],
    )
    assert verdict.passed is passed
    assert "against 50.0 of captioner/1" in verdict.reason
    assert ("becomes champion" if passed else "captioner/1 stays champion") in verdict.reason


def test_a_failed_guard_refuses_by_its_name_and_sentence() -> None:
    broken = Guard(
        name="vocabulary",
        passed=False,
        candidate=10,
        champion=400,
        threshold="at least half",
        sentence="captions use 10 different words",
    )
    scores = {"cider": 60.0}
    verdict = decide(PromoteConfig(), ("c/2", scores), ("c/1", scores), gain(10.0), [broken])
    assert not verdict.passed
    assert "for vocabulary (captions use 10 different words): CIDEr 60.0" in verdict.reason


@pytest.mark.parametrize(
    ("changed", "failed"),
    [
        ({}, []),
        ({"length": 7.0}, ["length"]),
        ({"length": 14.0}, ["length"]),
        ({"vocabulary": 200}, ["vocabulary"]),
        ({"repeated": 0.08}, ["repeated"]),
        ({"unfinished": 0.5}, ["unfinished"]),
        ({"shared": 0.9}, ["shared"]),
        ({"misplaced": 45.0}, ["misplaced"]),
        ({"speed": 9.0}, ["speed"]),
        ({"vocabulary": 5, "shared": 1.0}, ["vocabulary", "shared"]),
    ],
)
def test_each_guard_watches_one_thing(changed: dict[str, float], failed: list[str]) -> None:
    ours = NORMAL.model_copy(update=changed)
    guards = behaviour_guards(PromoteConfig(), ours, NORMAL, cider=50.0)
    assert [guard.name for guard in guards if not guard.passed] == failed
    for guard in guards:
        assert guard.sentence and guard.threshold
        assert guard.candidate is not None and guard.champion is not None


def test_limits_are_settings() -> None:
    lax = PromoteConfig(guards=GuardsConfig(min_speed=0.1))
    slow = NORMAL.model_copy(update={"speed": 3.0})
    guards = {guard.name: guard for guard in behaviour_guards(lax, slow, NORMAL, cider=50.0)}
    assert guards["speed"].passed
    assert guards["speed"].threshold == "at least 0.1 times the champion's"


def test_the_worst_slice_that_is_large_enough_is_judged() -> None:
    def one(value: str, candidate: float, judged: bool = True) -> SliceScore:
        return SliceScore(value=value, images=50, candidate=candidate, champion=50.0, judged=judged)

    settings = PromoteConfig(slice_by="place")
    slices = [one("night", 41.0), one("day", 60.0), one("fog", 1.0, judged=False)]
    guard = slice_guard(settings, slices)
    assert guard is not None and not guard.passed
    assert "place = 'night' (50 pictures): CIDEr 41.0 against 50.0" in guard.sentence
    small = slice_guard(settings, [one("fog", 1.0, judged=False)])
    assert small is not None and small.passed
    assert small.sentence.startswith("none of the 1 slices by place has 30 pictures")
    assert slice_guard(settings, []) is None
    fine = slice_guard(settings, [one("night", 46.0)])
    assert fine is not None and fine.passed


def test_signatures_and_learned_pictures() -> None:
    assert signature_guard("a", "a").passed and not signature_guard("a", "b").passed
    assert overlap_guard("val", [], 10).passed
    guard = overlap_guard("val", ["x.jpg", "y.jpg"], 10)
    assert not guard.passed
    assert guard.sentence == (
        "2 of the 10 pictures of 'val' are training pictures too (x.jpg, y.jpg)"
    )


@pytest.mark.parametrize(("images", "p_value"), [(4, 0.05), (9, 0.001)])
def test_an_evaluation_set_too_small_for_the_p_value_is_an_error(
    images: int, p_value: float
) -> None:
    with pytest.raises(ConfigError, match=f"too small: {images} pictures cannot show a gain"):
        require_enough_images(PromoteConfig(max_p_value=p_value), images)
    require_enough_images(PromoteConfig(max_p_value=p_value), images + 2)


def test_too_few_resamples_for_the_p_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match="take at least 10,000"):
        require_enough_images(PromoteConfig(max_p_value=1e-4, resamples=500), 1000)


@pytest.mark.parametrize(
    ("caption", "again"),
    [
        ("a dog runs over a field", False),
        ("a a dog runs", True),
        ("in a in a house", True),
        ("a red dog and a red dog", True),
        ("a man and a woman and a child", False),
        ("", False),
        ("dog", False),
    ],
)
def test_what_it_is_to_say_something_twice(caption: str, again: bool) -> None:
    assert repeats(caption) is again


def test_figures_of_captions() -> None:
    captions = ["A dog runs.", "A dog runs.", "the cat sat, the cat sat down", ""]
    assert length_and_vocabulary(captions) == ((3 + 3 + 7) / 4, 7)
    assert repeated_share(captions) == 0.25
    assert shared_share(captions) == 0.5
    assert shared_share(["a", "b"]) == 0
