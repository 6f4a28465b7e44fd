"""Candidate and champion measured side by side, and what the gate makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.promote import gate
from pipeline.promote.case import Case
from pipeline.promote.evaluation_set import overlap
from pipeline.promote.keep import decision_of, read_decision, taken_back
from pipeline.promote.measure import measure
from pipeline.records import Decision, EvaluationSet, Guard
from pipeline.tracking import ModelVersion

if TYPE_CHECKING:
    from pipeline.promote.compare import Evaluator, System


def judge(
    case: Case,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    evaluation_set: EvaluationSet,
    directory: Path,
) -> Decision:
    """The decision, every number in it; measurements are kept in `directory`.

    Raises:
        ConfigError: the evaluation set is too small, or the champion was promoted by other metrics.
        ModelError: one of them cannot be loaded.
    """
    from pipeline.promote.compare import Evaluator

    evaluator = Evaluator(case.config, evaluation_set)
    base = _base(case, candidate, champion, evaluator, directory)
    if champion is not None and champion.version == candidate.version:
        cider = case.card.metrics["cider"]
        reason = f"{candidate.ref} is the champion already, with CIDEr {cider:.1f}"
        return Decision(**base, promoted=False, reason=reason)
    learned = overlap([case.shard_set, *case.earlier], evaluation_set)
    apart = gate.overlap_guard(evaluation_set.split, learned, evaluation_set.images)
    if learned:
        reason = f"{candidate.ref} is refused, for {apart.name}: {apart.sentence}"
        return Decision(**base, promoted=False, reason=reason, guards=(apart,))
    guards = [apart, *_rolled_back(candidate)]
    if champion is not None:
        gate.require_enough_images(case.config.promote, evaluation_set.images)
        _same_signature(case, champion, evaluator)
    ours = _measured(case, candidate, evaluator, directory / "candidate")
    theirs = None
    if champion is not None:
        theirs = _measured(case, champion, evaluator, directory / "champion")
    return _compared(case, base, guards, evaluator, ours, theirs)


def _base(
    case: Case,
    candidate: ModelVersion,
    champion: ModelVersion | None,
    evaluator: Evaluator,
    directory: Path,
) -> dict[str, Any]:
    """What a decision says before anything is measured."""
    settings = case.config.promote
    return {
        "path": str(directory),
        "fingerprint": directory.name,
        "model": candidate.name,
        "version": candidate.version,
        "candidate": case.card.metrics,
        "champion": None,
        "champion_version": None if champion is None else champion.version,
        "min_gain": settings.min_gain,
        "max_p_value": settings.max_p_value,
        "resamples": settings.resamples,
        "signature": evaluator.signature(),
        "evaluation_set": evaluator.evaluation_set,
        "training_images": case.shard_set.samples.get("train", 0),
        "asked_by": case.asked_by,
        "cause": case.cause,
        "flow_run": case.flow_run,
    }


def _compared(
    case: Case,
    base: dict[str, Any],
    guards: Sequence[Guard],
    evaluator: Evaluator,
    ours: System,
    theirs: System | None,
) -> Decision:
    """What the gate makes of the candidate beside the champion, or alone where there is none."""
    from pipeline.promote.compare import examples, shown

    settings = case.config.promote
    slices = evaluator.slices(ours, theirs)
    scores = {**case.card.metrics, **ours.percent()}
    base |= {
        "candidate": scores,
        "signature": ours.scores.signature,
        "intervals": evaluator.intervals(ours),
        "behaviour": ours.behaviour,
        "slices": shown(slices),
        "examples": examples(ours, theirs),
    }
    ref = f"{base['model']}/{base['version']}"
    if theirs is None:
        verdict = gate.first(settings, ref, scores["cider"], guards)
        return decision_of(base, settings, verdict, guards)
    gains = evaluator.gains(ours, theirs)
    same = gate.signature_guard(ours.scores.signature, theirs.scores.signature)
    behaved = gate.behaviour_guards(settings, ours.behaviour, theirs.behaviour, scores["cider"])
    sliced = gate.slice_guard(settings, slices)
    guards = [*guards, same, *behaved, *([sliced] if sliced is not None else [])]
    base |= {
        "champion": theirs.percent(),
        "champion_behaviour": theirs.behaviour,
        "gains": gains,
    }
    champion = (f"{base['model']}/{base['champion_version']}", theirs.percent())
    verdict = gate.decide(settings, (ref, scores), champion, gains[gate.METRIC], guards)
    return decision_of(base, settings, verdict, guards)


def _measured(case: Case, version: ModelVersion, evaluator: Evaluator, directory: Path) -> System:
    pictures = evaluator.evaluation_set
    return evaluator.system(
        measure(case.config, version.ref, version.directory, pictures, directory)
    )


def _same_signature(case: Case, champion: ModelVersion, evaluator: Evaluator) -> None:
    """Refuse to compare by other metrics than the champion was promoted by, before any work.

    Only on the evaluation set that it was promoted on: another one is another signature anyway.
    """
    made = read_decision(champion)
    if made is None or made.evaluation_set is None or case.config.promote.new_signature:
        return
    now = evaluator.signature()
    same_set = made.evaluation_set.fingerprint == evaluator.evaluation_set.fingerprint
    if same_set and made.signature != now:
        raise ConfigError(
            f"champion {champion.ref} was scored with signature {made.signature}, now it would be "
            f"{now}; scores with different signatures are not compared. Give "
            "score.document_frequencies the table it had, or set promote.new_signature = true to "
            "score both by the metrics of now"
        )


def _rolled_back(candidate: ModelVersion) -> list[Guard]:
    """A version that a person took back stays away until a person approves it."""
    why = taken_back(candidate)
    if not why:
        return []
    sentence = f"it was rolled back: {why}; `captionmill approve {candidate.ref}` overrules that"
    return [
        Guard(
            name="rolled back",
            passed=False,
            candidate=why,
            champion=None,
            threshold="never",
            sentence=sentence,
        )
    ]
