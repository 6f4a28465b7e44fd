"""Aliases moved as one: written down first, then carried out, finished by whoever comes next.

    WORK/promote/pending-NAME.json    a move that was begun and not finished
    WORK/promote/audit.jsonl          see audit.py

Killed between any two steps, the next `promote`, `approve` or `rollback` carries the move to
its end before it does anything else.
"""

from __future__ import annotations

import uuid
from pathlib import Path

from pydantic import Field

from pipeline import storage
from pipeline.errors import AliasMovedError
from pipeline.progress import say
from pipeline.promote import audit
from pipeline.promote.audit import Entry
from pipeline.records import Decision, Record
from pipeline.tracking import Tracker

ALIASES = ("previous", "champion", "challenger")
"""In the order in which they are moved: a reader finds a champion at any moment."""


class Move(Record):
    """Everything that a decision, an approval or a rollback changes."""

    entry: Entry
    decision: Decision | None = None
    """Saved as its directory's record when the move is done."""
    tags: dict[int, dict[str, str]] = Field(default_factory=dict)
    """By version."""

    @property
    def name(self) -> str:
        """The registered model."""
        return self.entry.model


def promotions(work: Path) -> Path:
    """The directory that decisions, moves and the audit log lie in."""
    return work.absolute() / "promote"


def audit_log(work: Path) -> Path:
    """The audit log of a work directory."""
    return promotions(work) / "audit.jsonl"


def new_id() -> str:
    """A name for an entry."""
    return uuid.uuid4().hex[:16]


def begin(tracker: Tracker, move: Move) -> None:
    """Write a move down and carry it out. Call it under the promotion's lock.

    Raises:
        AliasMovedError: the champion was moved since the move was decided; nothing is changed.
    """
    move.save(_pending(tracker.work, move.name))
    _carry_out(tracker, move)


def finish_pending(tracker: Tracker, name: str) -> Entry | None:
    """Carry out what an earlier run wrote down and did not finish; its entry, if there was any.

    Raises:
        AliasMovedError: the champion was moved since; the move is abandoned.
    """
    try:
        move = Move.load(_pending(tracker.work, name))
    except FileNotFoundError:
        return None
    except ValueError:
        _drop(tracker, name, "another release wrote it down")
        return None
    versions = {known.version for known in tracker.versions(name)}
    if not versions.issuperset(move.entry.after.values()):
        _drop(tracker, name, f"{name}/{move.entry.version} is not what the registry has now")
        return None
    say("promote", f"finishing what was {move.entry.event}: {name}/{move.entry.version}")
    _carry_out(tracker, move)
    return move.entry


def _drop(tracker: Tracker, name: str, why: str) -> None:
    say("promote", f"a move of {name}'s aliases that was begun is not finished: {why}")
    _pending(tracker.work, name).unlink()


def _carry_out(tracker: Tracker, move: Move) -> None:
    entry = move.entry
    with tracker.exclusively(entry.model):
        aliases = tracker.aliases(entry.model)
        champions = (entry.before.get("champion"), entry.after.get("champion"))
        if aliases.get("champion") not in champions:
            raise _abandon(tracker, move, aliases)
        for alias in ALIASES:
            version = entry.after.get(alias)
            if aliases.get(alias) != version:
                tracker.set_alias(entry.model, alias, version)
    for version, tags in move.tags.items():
        tracker.tag_version(entry.model, version, tags)
    audit.append(audit_log(tracker.work), entry)
    if move.decision is not None:
        move.decision.save(Path(move.decision.path) / "record.json")
    _pending(tracker.work, entry.model).unlink(missing_ok=True)


def _abandon(tracker: Tracker, move: Move, aliases: dict[str, int]) -> AliasMovedError:
    entry, now = move.entry, aliases.get("champion")
    abandoned = entry.model_copy(
        update={
            "id": new_id(),
            "time": audit.now(),
            "event": "abandoned",
            "before": aliases,
            "after": aliases,
        }
    )
    audit.append(audit_log(tracker.work), abandoned)
    _pending(tracker.work, entry.model).unlink(missing_ok=True)
    then = entry.before.get("champion")
    was = f"{entry.model}/{then}" if then is not None else "unset"
    place = f"{entry.model}/{now}" if now is not None else "unset"
    return AliasMovedError(
        f"champion of {entry.model} was {was} when {entry.model}/{entry.version} was {entry.event}, "
        f"and is {place} now: somebody moved it in between, and it is left there. Run the same "
        "command again to decide against the champion of now"
    )


def _pending(work: Path, name: str) -> Path:
    return promotions(work) / f"pending-{name}.json"


def remove_torn(work: Path) -> None:
    """Delete what killed commits left (under the lock)."""
    storage.remove_temporaries(promotions(work))
