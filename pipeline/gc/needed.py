"""What has to stay: by the registry's aliases, by tables, and by what those name in turn.

A version counts as ours where it carries our fingerprint: a registry may be shared with others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from pipeline import storage
from pipeline.errors import ConfigError, DataError, ShardError, TableError
from pipeline.records import Checkpoint, Decision, EvaluationSet, ScoreCard, ShardSet
from pipeline.remote import Location
from pipeline.shard_tars import read_manifest
from pipeline.tracking import ModelVersion, Tracker


@dataclass
class Needed:
    """Paths below the work directory that stay."""

    directories: set[Path] = field(default_factory=set)
    """Of trainings, scores and decisions."""
    manifests: set[Path] = field(default_factory=set)
    parts: set[Path] = field(default_factory=set)
    idle: list[tuple[ModelVersion, list[Path]]] = field(default_factory=list)
    """Versions that nothing points at, and the folders here that hold files of theirs."""
    tables: list[Path] = field(default_factory=list)
    """Those on local disk."""


def needed(work: Path, tables: Sequence[Location]) -> Needed:
    """Everything that an alias, a pinned evaluation set or a table needs.

    Raises:
        TableError: one of `tables` is no caption table.
        ConfigError: the registry is not the one that this work directory promoted in.
        DataError: the pinned evaluation set is noted in a way that this release cannot read.
    """
    for table in tables:
        if not (table / "_table.json").is_file():
            raise TableError(f"{table} is not a caption table: it has no _table.json")
    known = sorted(path.parent for path in work.glob("captions/*/_table.json"))
    found = Needed(tables=[*known, *(table for table in tables if isinstance(table, Path))])
    by_tables = {ref for table in (*known, *tables) for ref in _models(table)}
    tracker = Tracker(work)
    names = tracker.names()
    if strangers := sorted(_promoted(work).difference(names)):
        raise ConfigError(
            f"the audit log of {work} tells of the model {strangers[0]!r}, which the registry "
            f"{tracker.uri} does not have, so that what is needed cannot be told. Set "
            "MLFLOW_TRACKING_URI as it was for the promotions; if that registry is gone for good, "
            "`captionmill retrain` registers the model again"
        )
    for name in names:
        aliased = set(tracker.aliases(name).values())
        pinned = tracker.model_tags(name).get("evaluation_set")
        if pinned is not None:
            _keep_set(found, work, _evaluation_set(name, pinned).shard_set)
        for version in tracker.versions(name):
            if not version.fingerprint:
                continue
            if version.version in aliased or version.ref in by_tables:
                _keep_evidence(found, work, version)
            else:
                found.idle.append((version, tracker.places(version)))
    return found


def _promoted(work: Path) -> set[str]:
    """The models that the audit log tells of; a damaged line tells of none."""
    names = set()
    with contextlib.suppress(FileNotFoundError):
        for line in (work / "promote" / "audit.jsonl").read_bytes().splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                names.add(str(storage.parse_json(line.decode())["model"]))
    return names


def _evaluation_set(name: str, pinned: str) -> EvaluationSet:
    try:
        return EvaluationSet.model_validate_json(pinned)
    except ValidationError:
        raise DataError(
            f"the evaluation set pinned on {name} cannot be read by this release; set "
            "promote.evaluation_set and promote once, then its pictures are known again"
        ) from None


def _models(table: Location) -> set[str]:
    """NAME/version of every captioner that made rows of a table."""
    refs = set()
    for path in [table / "_table.json", *storage.matching(table / "_recipes", "*.json")]:
        try:
            model = storage.read_json(path).get("model")
        except (OSError, ValueError, AttributeError):
            continue  # `captionmill verify` is there to say so
        if isinstance(model, dict):
            refs.add(f"{model.get('name')}/{model.get('version')}")
    return refs


def _keep_evidence(found: Needed, work: Path, version: ModelVersion) -> None:
    for name, record in (
        ("shard_set.json", ShardSet),
        ("checkpoint.json", Checkpoint),
        ("score_card.json", ScoreCard),
        ("decision.json", Decision),
    ):
        try:
            value = record.load(version.evidence / name)
        except (FileNotFoundError, ValueError):
            continue  # it was never decided about, or its files are gone
        if isinstance(value, ShardSet):
            _keep_set(found, work, value)
        elif isinstance(value, Checkpoint):
            found.directories.add(work / "train" / value.fingerprint)
        elif isinstance(value, ScoreCard):
            found.directories.add(work / "score" / value.fingerprint)
        elif isinstance(value, Decision):
            found.directories.add(work / "promote" / value.fingerprint)


def _keep_set(found: Needed, work: Path, shard_set: ShardSet) -> None:
    """A set where it lies in this work directory: the records' paths may be of before a move."""
    manifest = work.joinpath("shard", *Path(shard_set.manifest).parts[-3:])
    keep_manifest(found, manifest)


def keep_manifest(found: Needed, manifest: Path) -> None:
    """Keep a set's manifest and its parts."""
    found.manifests.add(manifest)
    try:
        found.parts.update(read_manifest(manifest))
    except ShardError:
        return  # gone already
