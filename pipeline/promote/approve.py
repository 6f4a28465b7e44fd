"""`approve`: a person lets a candidate through that passed the gate and waits."""

from __future__ import annotations

from pathlib import Path

from pipeline import storage
from pipeline.errors import AliasMovedError, ConfigError
from pipeline.progress import say
from pipeline.promote import audit
from pipeline.promote.audit import Entry
from pipeline.promote.keep import (
    ROLLED_BACK,
    attach_approval,
    decision_tags,
    evidence_of,
    read_decision,
    taken_back,
)
from pipeline.promote.moves import Move, begin, finish_pending, new_id, promotions
from pipeline.promote.rollback import require_whole
from pipeline.promote.settle import crowned, numbers
from pipeline.records import Decision
from pipeline.tracking import ModelVersion, Tracker


def approve(
    work: Path,
    name: str,
    *,
    alias: str | None = None,
    version: int | None = None,
    by: str,
    reason: str = "",
    overrule: bool = False,
) -> Decision:
    """Make the version champion in the name of `by`; again does nothing.

    Args:
        work: the work directory.
        name: the registered model.
        alias: which version, by alias, or
        version: by number.
        by: the person.
        reason: why; kept with the name.
        overrule: also a version that the gate refused or that was rolled back.

    Raises:
        ModelNotFoundError: there is no such version.
        ConfigError: it does not wait, and nobody overrules the gate; or `by` is empty.
        AliasMovedError: the champion is another than it was compared with.
        WeightsError: the version's files are damaged.
        DataError: its evidence is gone.
        BusyError: a promotion is going on.
    """
    if not by.strip():
        raise ConfigError("--by names the person who approves; it cannot be empty")
    with storage.lock(promotions(work)):
        tracker = Tracker(work)
        finish_pending(tracker, name)
        found = tracker.resolve(name, alias=alias, version=version)
        decision, aliases = read_decision(found), tracker.aliases(name)
        if decision is None:
            raise ConfigError(
                f"{found.ref} was never decided about; `captionmill promote` compares it first"
            )
        if aliases.get("champion") == found.version:
            say("promote", f"nothing new: {found.ref} is the champion")
            attach_approval(tracker, found, decision, work)
            return decision
        _check(found, decision, aliases, overrule=overrule)
        require_whole(found)
        evidence_of(found)  # that of which the card is made again is there
        approved = decision.model_copy(
            update={
                "promoted": True,
                "waiting": False,
                "approved_by": by,
                "approval": reason,
                "path": str(promotions(work) / decision.fingerprint),
            }
        )
        entry = Entry(
            id=new_id(),
            time=audit.now(),
            event="approved",
            model=name,
            version=found.version,
            asked_by=decision.asked_by,
            approved_by=by,
            why=reason,
            reason=decision.reason,
            decision=decision.fingerprint,
            numbers=numbers(decision),
            before=aliases,
            after=crowned(found.version, aliases),
        )
        tags = {**decision_tags(approved), ROLLED_BACK: ""}
        begin(tracker, Move(entry=entry, decision=approved, tags={found.version: tags}))
        attach_approval(tracker, found, approved, work)
    say("promote", f"{found.ref} is champion, approved by {by}")
    return approved


def _check(
    found: ModelVersion, decision: Decision, aliases: dict[str, int], *, overrule: bool
) -> None:
    if overrule:
        return
    if not decision.waiting:
        state = "refused"
        if back := taken_back(found):
            state = f"rolled back ({back})"
        elif decision.promoted:
            state = "promoted before, and the champion was moved since"
        raise ConfigError(
            f"{found.ref} does not wait for approval: it was {state}; {decision.reason}. To make it "
            "champion all the same, add --overrule and a --reason"
        )
    now = aliases.get("champion")
    if now != decision.champion_version:
        then = decision.champion_version
        raise AliasMovedError(
            f"{found.ref} was compared with {f'{found.name}/{then}' if then else 'no champion'}, and "
            f"the champion is {f'{found.name}/{now}' if now else 'unset'} now; run `captionmill "
            "promote` again to compare it with that, or add --overrule"
        )
