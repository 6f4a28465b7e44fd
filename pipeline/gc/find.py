"""What lies in a work directory and is not needed, oldest kinds of output first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import storage
from pipeline.errors import ShardError
from pipeline.gc.needed import Needed, keep_manifest
from pipeline.records import ShardSet
from pipeline.shard_tars import read_part

STAGES = ("train", "score", "promote")
"""Folders of a directory a fingerprint, each with a lock of its own."""


@dataclass(frozen=True)
class Found:
    """Something that may go, and the directory whose lock says that nobody is at it."""

    path: Path
    kind: str
    lock: Path | None = None


def find(work: Path, wanted: Needed, since: float) -> Iterator[Found]:
    """Everything older than `since` (seconds since 1970) that is not `wanted`."""
    yield from _stages(work, wanted, since)
    _keep_recent_sets(work, wanted, since)
    yield from _shards(work, wanted, since)
    yield from _features(work, wanted, since)
    yield from _versions(work, wanted, since)
    yield from _previous(wanted, since)
    yield from _temporaries(work, since)


def newest(path: Path) -> float:
    """When something in `path` was last written; seconds since 1970."""
    times = [file.lstat().st_mtime for file in path.rglob("*") if file.name != ".lock"]
    return max(times, default=path.lstat().st_mtime)


def _stages(work: Path, wanted: Needed, since: float) -> Iterator[Found]:
    for stage in STAGES:
        for directory in sorted((work / stage).glob("[0-9a-f]" * 16)):
            if directory not in wanted.directories and newest(directory) < since:
                lock = directory if stage != "promote" else None
                yield Found(directory, stage, lock)


def _keep_recent_sets(work: Path, wanted: Needed, since: float) -> None:
    """The sets that late trainings read, and the set that each shard directory in use is at.

    In use is a directory that a run wrote to or locked lately, or that holds a set which is
    needed: the next run builds on its parts.
    """
    for training in sorted((work / "train").glob("[0-9a-f]" * 16)):
        if newest(training) >= since and (learned := _learned_from(training)) is not None:
            for manifest in (work / "shard").glob(f"*/sets/{learned}.json"):
                keep_manifest(wanted, manifest)
    for directory in sorted((work / "shard").glob("[0-9a-f]" * 16)):
        used = any(manifest.parent.parent == directory for manifest in wanted.manifests)
        if not used and max(newest(directory), _locked(directory)) < since:
            continue
        try:
            record = ShardSet.load(directory / "record.json")
        except (FileNotFoundError, ValueError):
            continue
        keep_manifest(wanted, directory / "sets" / Path(record.manifest).name)


def _learned_from(training: Path) -> str | None:
    """Fingerprint of the shard set of a training, finished or not; None before its first checkpoint."""
    for path in (
        *training.glob("model/captioner.json"),
        *training.glob("checkpoints/*/captioner.json"),
    ):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return str(storage.read_json(path)["provenance"]["shard_set"])
    return None


def _locked(directory: Path) -> float:
    """When a run last held `directory`; seconds since 1970."""
    try:
        return (directory / ".lock").stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _shards(work: Path, wanted: Needed, since: float) -> Iterator[Found]:
    for directory in sorted((work / "shard").glob("[0-9a-f]" * 16)):
        if not any(manifest.parent.parent == directory for manifest in wanted.manifests):
            if max(newest(directory), _locked(directory)) < since:
                yield Found(directory, "shard", directory)
            continue
        for path in sorted(directory.glob("parts/*")):
            if path not in wanted.parts and newest(path) < since:
                yield Found(path, "shard part", directory)
        for path in sorted(directory.glob("sets/*.json")):
            if path not in wanted.manifests and path.lstat().st_mtime < since:
                yield Found(path, "shard set", directory)


def _features(work: Path, wanted: Needed, since: float) -> Iterator[Found]:
    """Cached features of tars that belong to no set that stays; named by the tar's SHA-256."""
    tars: set[str] = set()
    for part in wanted.parts:
        try:
            tars.update(tar.sha256[:32] for tar in read_part(part))
        except ShardError:
            continue  # a part that is gone has no features to keep
    for path in sorted((work / "features").glob("*/*.npy")):
        if path.name[:32] not in tars and path.lstat().st_mtime < since:
            yield Found(path, "features")


def _versions(work: Path, wanted: Needed, since: float) -> Iterator[Found]:
    """Files of versions that nobody points at; their evidence, tags and description stay."""
    for version, folders in wanted.idle:
        for folder in folders:
            if folder.is_relative_to(work / "models"):
                if newest(folder) < since:
                    yield Found(folder, "downloaded model")
                continue
            if not folder.is_relative_to(work):
                continue  # in somebody else's folder
            for path in sorted(folder.iterdir()):
                if path.name != "evidence" and newest(path) < since:
                    yield Found(path, f"files of {version.ref}")


def _previous(wanted: Needed, since: float) -> Iterator[Found]:
    """Old parts of tables whose refresh is whole."""
    for table in wanted.tables:
        folder = table / "_previous"
        try:
            whole = storage.read_json(folder / "_refresh.json").get("state") == "whole"
        except (OSError, ValueError, AttributeError):
            continue
        if whole and newest(folder) < since:
            yield Found(folder, "old parts", table)


def _temporaries(work: Path, since: float) -> Iterator[Found]:
    """What killed commits left anywhere; one that goes on is younger than `since`."""
    patterns = (f"{storage.TEMPORARY}*", f"*/{storage.TEMPORARY}*", f"*/*/{storage.TEMPORARY}*")
    for pattern in patterns:
        for path in sorted(work.glob(pattern)):
            if newest(path) < since:
                yield Found(path, "temporary")
