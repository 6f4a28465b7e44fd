"""The gate: numbers in, verdict out. Knows no registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

METRIC = "cider"


class Verdict(NamedTuple):
    """Whether the candidate becomes champion, and why, in one line for people."""

    promoted: bool
    reason: str


def decide(
    candidate: tuple[str, Mapping[str, float]],
    champion: tuple[str, Mapping[str, float]] | None,
    min_gain: float,
) -> Verdict:
    """Promote a first candidate, and one whose CIDEr gains more than `min_gain` (x100 scale).

    Both are (NAME/version, scores x100 on the same references with the same signature).
    """
    ref, scores = candidate
    if champion is None:
        return Verdict(True, f"{ref} becomes the first champion with CIDEr {scores[METRIC]:.1f}")
    other, theirs = champion
    if ref == other:
        return Verdict(False, f"{ref} is the champion already, with CIDEr {scores[METRIC]:.1f}")
    gain = scores[METRIC] - theirs[METRIC]
    numbers = (
        f"CIDEr {scores[METRIC]:.1f} against {theirs[METRIC]:.1f} of {other} "
        f"(gain {gain:+.2f}, more than {min_gain:.2f} is needed)"
    )
    if gain > min_gain:
        return Verdict(True, f"{ref} becomes champion: {numbers}")
    return Verdict(False, f"{ref} is refused and {other} stays champion: {numbers}")
