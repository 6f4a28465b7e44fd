"""A decision and its evidence on the version: files, tags, description; and back again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline import storage
from pipeline.config_promote import PromoteConfig
from pipeline.errors import DataError
from pipeline.promote.case import Case
from pipeline.promote.gate import Verdict
from pipeline.promote.moves import promotions
from pipeline.promote.report import decision_markdown, model_card
from pipeline.records import Checkpoint, Decision, Guard, ScoreCard, ShardSet
from pipeline.tracking import ModelVersion, Tracker

ROLLED_BACK = "rolled_back"
"""The tag of a version that a person took back."""


def decision_of(
    base: dict[str, Any], settings: PromoteConfig, verdict: Verdict, guards: Sequence[Guard]
) -> Decision:
    """The record of a verdict; what passes may have to wait for a person."""
    waits = verdict.passed and settings.require_approval
    return Decision(
        **base,
        promoted=verdict.passed and not waits,
        waiting=waits,
        reason=verdict.reason,
        guards=tuple(guards),
    )


def read_decision(version: ModelVersion) -> Decision | None:
    """The decision that a version carries; None where it was never decided about.

    One by a release whose records were different counts as none.
    """
    try:
        return Decision.model_validate_json(version.tags.get("captionmill.decision", ""))
    except ValidationError:
        return None


def taken_back(version: ModelVersion) -> str:
    """When, by whom and why a version was rolled back; empty where it was not, or is let in again."""
    return version.tags.get(f"captionmill.{ROLLED_BACK}", "")


def stored_decision(
    candidate: ModelVersion, champion: ModelVersion | None, identity: str
) -> Decision | None:
    """The decision that the version carries, if it is about this situation.

    The decision that made the reigning champion stays valid: there is nothing to decide.
    """
    decision = read_decision(candidate)
    if decision is None:
        return None
    reigns = champion is not None and champion.version == candidate.version
    if decision.fingerprint == identity or (reigns and decision.promoted):
        return decision
    return None


def attach_evidence(
    tracker: Tracker, candidate: ModelVersion, case: Case, decision: Decision, directory: Path
) -> None:
    """Files first; the decision's tag last, since a rerun takes it for the whole."""
    evidence = directory / "evidence"
    case.keep(evidence)
    decision.save(evidence / "decision.json")
    records = (case.shard_set, case.checkpoint, case.card, decision)
    storage.commit(evidence / "decision.md", decision_markdown(*records))
    storage.commit(evidence / "model_card.md", model_card(*records))
    for folder, source in (
        ("evidence/score", Path(case.card.path)),
        ("evidence", evidence),
    ):
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                tracker.attach(candidate, path, folder)
    tracker.describe(candidate, model_card(*records))
    tracker.tag(
        candidate,
        {
            "shard_set": case.checkpoint.shard_set,
            "checkpoint": case.checkpoint.fingerprint,
            "score_card": case.card.model_dump_json(),
            "cider": round(decision.candidate["cider"], 3),
            **decision_tags(decision),
        },
    )


def attach_approval(
    tracker: Tracker, version: ModelVersion, decision: Decision, work: Path
) -> None:
    """Write the report and the card again, with the approval in them.

    Raises:
        DataError: see `evidence_of`.
    """
    records = (*evidence_of(version), decision)
    folder = promotions(work) / decision.fingerprint / "evidence"
    decision.save(folder / "decision.json")
    storage.commit(folder / "decision.md", decision_markdown(*records))
    storage.commit(folder / "model_card.md", model_card(*records))
    for name in ("decision.json", "decision.md", "model_card.md"):
        tracker.attach(version, folder / name, "evidence")
    tracker.describe(version, model_card(*records))


def decision_tags(decision: Decision) -> dict[str, str]:
    """The tags of a version that speak of its decision; the whole comes last."""
    return {
        "promoted": str(decision.promoted),
        "reason": decision.reason,
        "decision": decision.model_dump_json(),
    }


def evidence_of(version: ModelVersion) -> tuple[ShardSet, Checkpoint, ScoreCard]:
    """What a decided version's decision rested on.

    Raises:
        DataError: the version carries no evidence, or it is damaged.
    """
    folder = version.evidence
    try:
        return (
            ShardSet.load(folder / "shard_set.json"),
            Checkpoint.load(folder / "checkpoint.json"),
            ScoreCard.load(folder / "score_card.json"),
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"the evidence of {version.ref} is missing or damaged: {reason}") from None
