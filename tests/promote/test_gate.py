from __future__ import annotations

import math

import pytest

from pipeline.promote.gate import decide


def test_the_first_candidate_is_promoted() -> None:
    verdict = decide(("captioner/1", {"cider": 3.0}), None, min_gain=50.0)
    assert verdict.promoted
    assert "captioner/1 becomes the first champion with CIDEr 3.0" in verdict.reason


@pytest.mark.parametrize(
    ("candidate", "champion", "min_gain", "promoted"),
    [
        (50.1, 50.0, 0.0, True),
        (50.0, 50.0, 0.0, False),
        (49.0, 50.0, 0.0, False),
        (50.5, 50.0, 0.5, False),
        (50.6, 50.0, 0.5, True),
        (49.5, 50.0, -1.0, True),
        (math.nan, 50.0, 0.0, False),
    ],
)
def test_a_gain_must_exceed_what_is_asked(
    candidate: float, champion: float, min_gain: float, promoted: bool
) -> None:
    verdict = decide(
        ("captioner/2", {"cider": candidate}), ("captioner/1", {"cider": champion}), min_gain
    )
    assert verdict.promoted is promoted
    assert f"against {champion:.1f} of captioner/1" in verdict.reason
    assert ("becomes champion" if promoted else "captioner/1 stays champion") in verdict.reason


def test_the_champion_does_not_replace_itself() -> None:
    verdict = decide(("captioner/1", {"cider": 5.0}), ("captioner/1", {"cider": 5.0}), -1.0)
    assert not verdict.promoted
    assert "is the champion already" in verdict.reason
