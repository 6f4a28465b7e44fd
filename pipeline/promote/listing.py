"""What the registry holds, for people: versions, aliases, scores, decisions, and lineage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline import storage
from pipeline.errors import DataError, ModelNotFoundError
from pipeline.promote.audit import Entry, read
from pipeline.promote.keep import evidence_of, read_decision, taken_back
from pipeline.promote.moves import audit_log
from pipeline.promote.report import verdict
from pipeline.records import Decision, Record
from pipeline.tracking import ModelVersion, Tracker


class VersionRow(Record):
    """One line of the list."""

    model: str
    version: int
    aliases: list[str]
    cider: float | None
    decision: str
    """promoted, refused, waiting for approval, approved by NAME, rolled back or undecided."""
    reason: str


class VersionDetails(VersionRow):
    """A version with its lineage."""

    directory: str
    fingerprint: str
    run_id: str
    shard_set: dict[str, Any] | None = None
    """What it was trained with: fingerprint, manifest, pictures and captions by split."""
    checkpoint: dict[str, Any] | None = None
    score_card: dict[str, Any] | None = None
    config: str | None = None
    """The settings' file among its evidence."""
    record: Decision | None = None
    history: list[Entry] = Field(default_factory=list)
    """Its lines of the audit log."""
    card: str = ""
    """The model card, Markdown."""


def list_models(work: Path) -> list[str]:
    """The names of all registered models."""
    return Tracker(work).names()


def list_versions(work: Path, name: str) -> list[VersionRow]:
    """All versions of a model, newest first; none where there is no such model.

    Raises:
        ConfigError: MLflow is not installed or cannot be reached.
    """
    tracker = Tracker(work)
    aliases = tracker.aliases(name)
    return [_row(version, aliases) for version in reversed(tracker.versions(name))]


def show_version(
    work: Path, name: str, alias: str | None = None, version: int | None = None
) -> VersionDetails:
    """One version with all that is known of where it came from.

    Raises:
        ModelNotFoundError: there is none.
        DataError: the audit log is damaged.
    """
    tracker = Tracker(work)
    number = version if alias is None else tracker.aliases(name).get(alias)
    found = tracker.find(name, number) or tracker.resolve(name, alias=alias, version=version)
    entries = [entry for entry in read(audit_log(work)) if entry.model == name]
    details: dict[str, Any] = {
        **_row(found, tracker.aliases(name)).model_dump(),
        "directory": _directory(found),
        "fingerprint": found.fingerprint,
        "run_id": found.run_id,
        "record": read_decision(found),
        "history": [entry for entry in entries if entry.version == found.version],
    }
    try:
        shard_set, checkpoint, card = evidence_of(found)
    except DataError:
        return VersionDetails(**details, checkpoint=_provenance(found))
    evidence = found.evidence
    text = evidence / "model_card.md"
    return VersionDetails(
        **details,
        shard_set=shard_set.model_dump(mode="json"),
        checkpoint=checkpoint.model_dump(mode="json"),
        score_card=card.model_dump(mode="json"),
        config=str(evidence / "config.yaml"),
        card=text.read_text(encoding="utf-8") if text.is_file() else "",
    )


def _directory(found: ModelVersion) -> str:
    """Where its files lie; says so where `captionmill gc` removed them."""
    try:
        return str(found.directory)
    except ModelNotFoundError:
        return "gone; its evidence stays"


def _provenance(found: ModelVersion) -> dict[str, Any] | None:
    """Of a version that was registered by other means, such as an import."""
    try:
        said = storage.read_json(found.directory / "captioner.json")["provenance"]
    except (OSError, ValueError, KeyError, TypeError, ModelNotFoundError):
        return None
    return said if isinstance(said, dict) else None


def _row(version: ModelVersion, aliases: dict[str, int]) -> VersionRow:
    decision = read_decision(version)
    back = taken_back(version)
    state = "undecided" if decision is None else verdict(decision)
    reason = "" if decision is None else decision.reason
    return VersionRow(
        model=version.name,
        version=version.version,
        aliases=[alias for alias, number in aliases.items() if number == version.version],
        cider=None if decision is None else decision.candidate.get("cider"),
        decision="rolled back" if back else state,
        reason=f"{back}; before that: {reason}" if back else reason,
    )
