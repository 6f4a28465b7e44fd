"""What a decision, an approval or a rollback does to the aliases, as a move."""

from __future__ import annotations

from pipeline.promote.audit import Entry, Event, now
from pipeline.promote.moves import Move, new_id
from pipeline.records import Decision


def decided(decision: Decision, before: dict[str, int]) -> Move:
    """The move of a fresh decision."""
    event: Event = "refused"
    if decision.promoted:
        event = "promoted"
    elif decision.waiting:
        event = "waiting"
    entry = Entry(
        id=new_id(),
        time=now(),
        event=event,
        model=decision.model,
        version=decision.version,
        asked_by=decision.asked_by,
        why=decision.cause,
        reason=decision.reason,
        decision=decision.fingerprint,
        numbers=numbers(decision),
        before=before,
        after=after_decision(decision, before),
    )
    return Move(entry=entry, decision=decision)


def after_decision(decision: Decision, before: dict[str, int]) -> dict[str, int]:
    """Where the aliases stand once a decision is carried out."""
    after = dict(before)
    if decision.promoted:
        return crowned(decision.version, before)
    if decision.version != before.get("champion"):
        after["challenger"] = decision.version
    return after


def crowned(version: int, before: dict[str, int]) -> dict[str, int]:
    """Where the aliases stand once `version` is champion."""
    after = dict(before)
    former = before.get("champion")
    if former is not None and former != version:
        after["previous"] = former
    after["champion"] = version
    if after.get("challenger") == version:
        del after["challenger"]
    return after


def numbers(decision: Decision) -> dict[str, object]:
    """What the audit log keeps of a decision's numbers."""
    return {
        "candidate": decision.candidate,
        "champion": decision.champion,
        "champion_version": decision.champion_version,
        "gains": {name: gain.model_dump() for name, gain in decision.gains.items()},
        "guards": {guard.name: guard.passed for guard in decision.guards},
        "min_gain": decision.min_gain,
        "max_p_value": decision.max_p_value,
        "evaluation_set": decision.evaluation_set and decision.evaluation_set.fingerprint,
        "signature": decision.signature,
    }
