"""`rollback`: the champion of before, in seconds, with the reason written down."""

from __future__ import annotations

from pathlib import Path

from pipeline import storage
from pipeline.errors import ConfigError, ModelNotFoundError, WeightsError
from pipeline.models.digests import damaged
from pipeline.progress import say
from pipeline.promote import audit
from pipeline.promote.audit import Entry
from pipeline.promote.keep import ROLLED_BACK, taken_back
from pipeline.promote.moves import Move, audit_log, begin, finish_pending, new_id, promotions
from pipeline.records import Record
from pipeline.tracking import ModelVersion, Tracker


class Rollback(Record):
    """A champion that was taken back."""

    model: str
    version: int
    """The version that was champion."""
    champion: int
    """The version that is champion now."""
    by: str
    reason: str


def rollback(
    work: Path, name: str, *, by: str | None = None, reason: str, to: int | None = None
) -> Rollback:
    """Make `previous` (or version `to`) champion again, and keep the other one away.

    A version that was rolled back is refused by later promotions until a person approves it. A
    rollback that was killed is finished, and not done a second time.

    Raises:
        ModelNotFoundError: there is no champion, no previous one, or no version `to`.
        WeightsError: the version to go back to is damaged.
        ConfigError: `to` is the champion already, or no reason is given.
        BusyError: a promotion is going on.
    """
    if not reason.strip():
        raise ConfigError("--reason says why; it cannot be empty")
    with storage.lock(promotions(work)):
        tracker = Tracker(work)
        begun = finish_pending(tracker, name)
        if begun is not None and begun.event == "rolled back" and _same(begun, to):
            return _done(begun)  # killed on the way; twice would go back too far
        champion = tracker.resolve(name, alias="champion")
        aliases = tracker.aliases(name)
        target = _target(tracker, champion, aliases, to)
        require_whole(target)
        who = by or audit.this_user()
        after = {**aliases, "champion": target.version}
        after.pop("previous", None)
        earlier = tracker.find(name, _before(work, target))
        if earlier is not None and earlier.version != champion.version:
            after["previous"] = earlier.version
        if after.get("challenger") == target.version:
            del after["challenger"]
        time = audit.now()
        entry = Entry(
            id=new_id(),
            time=time,
            event="rolled back",
            model=name,
            version=champion.version,
            asked_by=who,
            why=reason,
            reason=f"{champion.ref} gives way to {target.ref}",
            before=aliases,
            after=after,
        )
        tags = {champion.version: {ROLLED_BACK: f"{time} by {who}: {reason}"}}
        if taken_back(target):
            tags[target.version] = {ROLLED_BACK: ""}  # a person has it back
        begin(tracker, Move(entry=entry, tags=tags))
        return _done(entry)


def _same(begun: Entry, to: int | None) -> bool:
    return to is None or to == begun.after["champion"]


def _done(entry: Entry) -> Rollback:
    now = entry.after["champion"]
    former = f"{entry.model}/{entry.version}"
    say("promote", f"{entry.model}/{now} is champion again, {former} is not: {entry.why}")
    return Rollback(
        model=entry.model, version=entry.version, champion=now, by=entry.asked_by, reason=entry.why
    )


def _target(
    tracker: Tracker, champion: ModelVersion, aliases: dict[str, int], to: int | None
) -> ModelVersion:
    if to == champion.version:
        raise ConfigError(f"{champion.ref} is the champion; there is nothing to roll back")
    if to is None and "previous" not in aliases:
        numbers = [known.version for known in tracker.versions(champion.name)]
        others = ", ".join(f"{champion.name}/{n}" for n in numbers if n != champion.version)
        raise ModelNotFoundError(
            f"{champion.ref} is the champion, and none was before it (no alias `previous`); "
            + (f"name one with --to: {others}" if others else "it is the only version")
        )
    if to is None:
        return tracker.resolve(champion.name, alias="previous")
    return tracker.resolve(champion.name, version=to)


def require_whole(version: ModelVersion) -> None:
    """Raise WeightsError unless the version's files are those that were registered.

    Without torch: going back must not wait for it.

    Raises:
        ModelNotFoundError: they are gone.
    """
    way_out = "take another version, or train it again"
    directory = version.directory
    try:
        description = dict(storage.read_json(directory / "captioner.json"))
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{version.ref} cannot become champion: {directory} is incomplete ({error}); {way_out}"
        ) from None
    for path, wrong in damaged(directory, description):
        raise WeightsError(f"{version.ref} cannot become champion: {path} {wrong}; {way_out}")


def _before(work: Path, target: ModelVersion) -> int | None:
    """The champion before `target` became it, by the audit log."""
    for entry in reversed(audit.read(audit_log(work))):
        became = entry.after.get("champion") == target.version
        former = entry.before.get("champion")
        if entry.model == target.name and became and former != target.version:
            return former
    return None
