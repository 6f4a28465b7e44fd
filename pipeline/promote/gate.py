"""The gate: scores, behaviour and slices in, verdict and guards out. Knows no registry."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config_promote import PromoteConfig
from pipeline.errors import ConfigError
from pipeline.records import Behaviour, Gain, Guard, SliceScore

METRIC = "cider"


@dataclass(frozen=True)
class Verdict:
    """Whether the candidate passes, and why, in one line for people."""

    passed: bool
    reason: str


def require_enough_images(settings: PromoteConfig, images: int) -> None:
    """Raise ConfigError where no gain, however large, could reach `max_p_value`.

    `paired_bootstrap` never calls a difference of few images more certain than a sign test
    could, 2 ** (1 - images), nor one of few resamples than 1 / (1 + resamples).
    """
    asked = settings.max_p_value
    least = 2.0 ** (1 - images)
    if least > asked:
        needed = math.ceil(1 - math.log2(asked))
        raise ConfigError(
            f"the evaluation set is too small: {images:,} pictures cannot show a gain at "
            f"promote.max_p_value = {asked:g} (their least p-value is {least:.2g}); take at least "
            f"{needed:,} pictures, better hundreds, or a larger promote.max_p_value"
        )
    if 1 / (1 + settings.resamples) > asked:
        raise ConfigError(
            f"promote.resamples = {settings.resamples:,} cannot show p = {asked:g}; take at least "
            f"{math.ceil(1 / asked):,}"
        )


def first(
    settings: PromoteConfig, candidate: str, score: float, guards: Sequence[Guard]
) -> Verdict:
    """The verdict where there is no champion: the guards alone decide."""
    if troubles := _failed(guards):
        return Verdict(False, f"{candidate} is refused, for {'; '.join(troubles)}")
    what = "may become" if settings.require_approval else "becomes"
    return Verdict(True, f"{candidate} {what} the first champion with CIDEr {score:.1f}")


def decide(
    settings: PromoteConfig,
    candidate: tuple[str, Mapping[str, float]],
    champion: tuple[str, Mapping[str, float]],
    gain: Gain,
    guards: Sequence[Guard],
) -> Verdict:
    """Let a candidate pass whose CIDEr gains more than `min_gain` at `max_p_value`, guards willing.

    Both are (NAME/version, scores x100 on the same references with the same signature).
    """
    (ref, ours), (other, theirs) = candidate, champion
    numbers = (
        f"CIDEr {ours[METRIC]:.1f} against {theirs[METRIC]:.1f} of {other} "
        f"(gain {gain.difference:+.2f}, 95 % interval {gain.low:+.2f} .. {gain.high:+.2f}, "
        f"p = {gain.p_value:.4f}; more than {settings.min_gain:.2f} at p <= "
        f"{settings.max_p_value:g} is needed)"
    )
    troubles = []
    if not gain.difference > settings.min_gain:
        troubles.append("lack of gain")
    elif not gain.p_value <= settings.max_p_value:
        troubles.append("a gain that may be chance")
    troubles += _failed(guards)
    if not troubles:
        what = "may become" if settings.require_approval else "becomes"
        return Verdict(True, f"{ref} {what} champion: {numbers}")
    return Verdict(
        False, f"{ref} is refused and {other} stays champion, for {'; '.join(troubles)}: {numbers}"
    )


def _failed(guards: Sequence[Guard]) -> list[str]:
    return [f"{guard.name} ({guard.sentence})" for guard in guards if not guard.passed]


def behaviour_guards(
    settings: PromoteConfig, ours: Behaviour, theirs: Behaviour, cider: float
) -> list[Guard]:
    """The guards on what captions look like and how fast they come.

    Args:
        settings: the limits.
        ours: the candidate's.
        theirs: the champion's.
        cider: the candidate's, x100 scale.
    """
    limits = settings.guards
    length = ours.length / max(theirs.length, 1e-9)
    words = ours.vocabulary / max(theirs.vocabulary, 1)
    speed = ours.speed / max(theirs.speed, 1e-9)
    placed = ours.misplaced / cider if cider > 0 else math.inf
    return [
        _guard(
            "length",
            limits.min_length <= length <= limits.max_length,
            (ours.length, theirs.length),
            f"{limits.min_length:g} to {limits.max_length:g} times the champion's",
            f"captions have {ours.length:.1f} words, {length:.2f} times the champion's "
            f"{theirs.length:.1f}",
        ),
        _guard(
            "vocabulary",
            words >= limits.min_vocabulary,
            (ours.vocabulary, theirs.vocabulary),
            f"at least {limits.min_vocabulary:g} times the champion's",
            f"captions use {ours.vocabulary:,} different words, {words:.2f} times the champion's "
            f"{theirs.vocabulary:,}",
        ),
        *(
            _share(name, what, (getattr(ours, name), getattr(theirs, name)), limit)
            for name, what, limit in (
                ("repeated", "of the captions say something twice", limits.max_repeated),
                (
                    "unfinished",
                    "of the captions are cut at their longest length",
                    limits.max_unfinished,
                ),
                ("shared", "of the pictures share their caption with another", limits.max_shared),
            )
        ),
        _guard(
            "misplaced",
            placed <= limits.max_misplaced,
            (ours.misplaced, theirs.misplaced),
            f"at most {limits.max_misplaced:g} times its own CIDEr",
            f"against other pictures' references the captions score {ours.misplaced:.1f} of their "
            f"{cider:.1f} CIDEr",
        ),
        _guard(
            "speed",
            speed >= limits.min_speed,
            (ours.speed, theirs.speed),
            f"at least {limits.min_speed:g} times the champion's",
            f"{ours.speed:,.1f} pictures a second, {speed:.2f} times the champion's "
            f"{theirs.speed:,.1f}",
        ),
    ]


def slice_guard(settings: PromoteConfig, slices: Sequence[SliceScore]) -> Guard | None:
    """The guard on the worst slice that is large enough; None where there are no slices."""
    if not slices:
        return None
    judged = [one for one in slices if one.judged and one.champion is not None]
    allowed = f"a loss of at most {settings.guards.max_slice_loss:g} CIDEr"
    if not judged:
        small = (
            f"none of the {len(slices):,} slices by {settings.slice_by} has {settings.min_slice:,} "
            "pictures, so that none is judged"
        )
        return _guard("slice", True, (None, None), allowed, small)
    worst = min(judged, key=lambda one: one.candidate - (one.champion or 0.0))
    assert worst.champion is not None
    loss = worst.champion - worst.candidate
    return _guard(
        "slice",
        loss <= settings.guards.max_slice_loss,
        (worst.candidate, worst.champion),
        allowed,
        f"the worst of {len(judged):,} slices is {settings.slice_by} = {worst.value!r} "
        f"({worst.images:,} pictures): CIDEr {worst.candidate:.1f} against {worst.champion:.1f}",
    )


def signature_guard(ours: str, theirs: str) -> Guard:
    """The guard that both were scored by the same metrics on the same references."""
    same = ours == theirs
    sentence = "both are scored by the same metrics on the same references"
    return _guard(
        "signature",
        same,
        (ours, theirs),
        "the same",
        sentence if same else "they are scored by different metrics or references",
    )


def overlap_guard(split: str, names: Sequence[str], images: int) -> Guard:
    """The guard that no picture of the evaluation set was learned from."""
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    found = f"{len(names):,} of the {images:,} pictures of {split!r} are training pictures too"
    return _guard(
        "evaluation pictures",
        not names,
        (len(names), None),
        "none among the training pictures",
        f"{found} ({some})" if names else found,
    )


def _share(name: str, what: str, shares: tuple[float, float], limit: float) -> Guard:
    ours, theirs = shares
    return _guard(
        name,
        ours <= theirs + limit,
        shares,
        f"at most {limit:g} above the champion's",
        f"{ours:.1%} {what}, {theirs:.1%} of the champion's",
    )


def _guard(
    name: str,
    passed: bool,
    values: tuple[float | str | None, float | str | None],
    threshold: float | str,
    sentence: str,
) -> Guard:
    return Guard(
        name=name,
        passed=passed,
        candidate=values[0],
        champion=values[1],
        threshold=threshold,
        sentence=sentence,
    )
