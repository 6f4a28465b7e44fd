"""What a captioner learned from before its own training: the sets of those it was started from."""

from __future__ import annotations

from pathlib import Path

from pipeline import storage
from pipeline.errors import DataError
from pipeline.promote.keep import evidence_of
from pipeline.records import Checkpoint, ShardSet
from pipeline.tracking import Tracker


def earlier_sets(tracker: Tracker, name: str, checkpoint: Checkpoint) -> tuple[ShardSet, ...]:
    """The shard sets of a captioner's ancestors, as far as versions of `name` know them."""
    try:
        description = storage.read_json(Path(checkpoint.path) / "captioner.json")
        wanted = set(description["provenance"]["learned_from"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # it started from none
    found = {}
    for version in tracker.versions(name):
        fingerprint = version.tags.get("captionmill.shard_set")
        if fingerprint in wanted and fingerprint not in found:
            try:
                found[fingerprint] = evidence_of(version)[0]
            except DataError:
                continue
    return tuple(found.values())
