"""Candidate and champion measured side by side, and what the gate makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError
from pipeline.promote import gate
from pipeline.promote.case import Case
from pipeline.promote.evaluation_set import overlap
from pipeline.promote.keep import decision_of, read_decision
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
    settings, card = case.config.promote, case.card
    base: dict[str, Any] = {
        "path": str(directory),
        "fingerprint": directory.name,
        "model": candidate.name,
        "version": candidate.version,
        "candidate": card.metrics,
        "champion": None,
        "champion_version": None if champion is None else champion.version,
        "min_gain": settings.min_gain,
        "max_p_value": settings.max_p_value,
        "resamples": settings.resamples,
        "signature": card.signature,
        "evaluation_set": evaluation_set,
        "training_images": case.shard_set.samples.get("train", 0),
        "asked_by": case.asked_by,
        "cause": case.cause,
        "flow_run": case.flow_run,
    }
    if champion is not None and champion.version == candidate.version:
        reason = f"{candidate.ref} is the champion already, with CIDEr {card.metrics['cider']:.1f}"
        return Decision(**base, promoted=False, reason=reason)
    learned = overlap(case.shard_set, evaluation_set)
    apart = gate.overlap_guard(evaluation_set.split, learned, evaluation_set.images)
    if learned:
        reason = f"{candidate.ref} is refused, for {apart.name}: {apart.sentence}"
        return Decision(**base, promoted=False, reason=reason, guards=(apart,))
    if champion is not None:
        gate.require_enough_images(settings, evaluation_set.images)
    from pipeline.promote.compare import Evaluator, examples, shown

    evaluator = Evaluator(case.config, evaluation_set)
    _same_signature(case, champion, evaluation_set, evaluator)
    ours = _measured(case, candidate, evaluation_set, evaluator, directory / "candidate")
    theirs = None
    if champion is not None:
        theirs = _measured(case, champion, evaluation_set, evaluator, directory / "champion")
    base["candidate"] = {**card.metrics, **ours.percent()}
    base["signature"] = ours.scores.signature
    slices = evaluator.slices(ours, theirs)
    base |= {
        "intervals": evaluator.intervals(ours),
        "behaviour": ours.behaviour,
        "slices": shown(slices),
        "examples": examples(ours, theirs),
    }
    if champion is None or theirs is None:
        verdict, guards = gate.first(candidate.ref, base["candidate"]["cider"]), [apart]
    else:
        gains = evaluator.gains(ours, theirs)
        cider = base["candidate"]["cider"]
        same = gate.signature_guard(ours.scores.signature, theirs.scores.signature)
        behaved = gate.behaviour_guards(settings, ours.behaviour, theirs.behaviour, cider)
        sliced = gate.slice_guard(settings, slices)
        guards = [apart, same, *behaved, *([sliced] if sliced is not None else [])]
        guards += _rolled_back(candidate)
        base |= {
            "champion": theirs.percent(),
            "champion_behaviour": theirs.behaviour,
            "gains": gains,
        }
        pair = (candidate.ref, base["candidate"]), (champion.ref, base["champion"])
        verdict = gate.decide(settings, *pair, gains[gate.METRIC], guards)
    waits = verdict.passed and settings.require_approval
    reason = verdict.reason
    if waits:
        reason += f"; it waits for `captionmill approve {candidate.ref} --by NAME`"
    return decision_of(base, verdict.passed, waits, reason, guards)


def _measured(
    case: Case,
    version: ModelVersion,
    evaluation_set: EvaluationSet,
    evaluator: Evaluator,
    directory: Path,
) -> System:
    found = measure(case.config, version.ref, version.directory, evaluation_set, directory)
    return evaluator.system(found)


def _same_signature(
    case: Case,
    champion: ModelVersion | None,
    evaluation_set: EvaluationSet,
    evaluator: Evaluator,
) -> None:
    """Refuse to compare by other metrics than the champion was promoted by, before any work.

    Only on the evaluation set that it was promoted on: another one is another signature anyway.
    """
    made = None if champion is None else read_decision(champion)
    if made is None or champion is None or case.config.promote.new_signature:
        return
    if made.evaluation_set is None:
        return
    now = evaluator.signature()
    same_set = made.evaluation_set.fingerprint == evaluation_set.fingerprint
    if same_set and made.signature != now:
        raise ConfigError(
            f"champion {champion.ref} was scored with signature {made.signature}, now it would be "
            f"{now}; scores with different signatures are not compared. Give "
            "score.document_frequencies the table it had, or set promote.new_signature = true to "
            "score both by the metrics of now"
        )


def _rolled_back(candidate: ModelVersion) -> list[Guard]:
    """A version that a person took back stays away until a person approves it."""
    why = candidate.tags.get("captionmill.rolled_back", "")
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
