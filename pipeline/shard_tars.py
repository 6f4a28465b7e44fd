"""A shard set's files: its manifest, its parts, their tars and the index beside each.

Knows where samples lie and not what they are. Paths are local, or of objects on object storage.

All paths relative to the set's directory:

    parts/<part>/<split>-<n>.tar            WebDataset samples <key>.<jpg|png|...>, <key>.json
    parts/<part>/<split>-<n>.index.json     where every member lies, sizes and SHA-256
    parts/<part>/<split>-<n>.infos.jsonl    the samples' JSON alone; only in published sets
    parts/<part>/part.json                  committed last: the part is whole and never changes
    sets/<fingerprint>.json                 the manifest: a list of parts
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pipeline import storage
from pipeline.errors import ShardError
from pipeline.remote import Location, RemotePath

_L = TypeVar("_L", Path, RemotePath, Path | RemotePath)

FORMAT = 1
"""Of the index, part and set files."""


class Member(NamedTuple):
    """Where one sample lies in its tar: offsets and sizes in bytes."""

    key: str
    extension: str
    image_offset: int
    image_size: int
    sha256: str
    """Of the picture's bytes."""
    json_offset: int
    json_size: int
    json_sha256: str
    text: str
    """Digest of everything about the sample but the picture's bytes."""


@dataclass(frozen=True)
class Tar:
    """One tar of a part, as its part's manifest describes it."""

    path: Location
    split: str
    count: int
    """Samples."""
    captions: int
    size: int
    """Bytes."""
    sha256: str
    """Over the member table, see `table_digest`; not of the tar's own bytes."""

    @property
    def index(self) -> Location:
        """The index beside the tar."""
        return self.path.with_suffix(".index.json")

    @property
    def infos(self) -> Location:
        """The samples' JSON beside the tar, a line each, where the set was published."""
        return self.path.with_suffix(".infos.jsonl")

    def row(self) -> dict[str, Any]:
        """As a part's manifest holds it: without its directory."""
        return {
            "name": self.path.name,
            "split": self.split,
            "count": self.count,
            "captions": self.captions,
            "size": self.size,
            "sha256": self.sha256,
        }

    @classmethod
    def of(cls, directory: Location, row: dict[str, Any]) -> Tar:
        """The tar in `directory` that `row` describes; KeyError if it does not."""
        fields = (row[name] for name in ("split", "count", "captions", "size", "sha256"))
        return cls(directory / row["name"], *fields)


def table_digest(members: list[Member]) -> str:
    """SHA-256 over every member's name, size and SHA-256, in order.

    The tar's bytes follow from these (fixed owner, mode and time), so hashing them again,
    which would nearly double the cost of writing a shard, adds nothing.
    """
    rows = [
        [m.key, m.extension, m.image_size, m.sha256, m.json_size, m.json_sha256] for m in members
    ]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def read_part(directory: Location) -> list[Tar]:
    """The tars of a finished part, as `part.json` lists them.

    Raises:
        ShardError: the part's manifest is missing or not one.
    """
    path = directory / "part.json"
    try:
        return [Tar.of(directory, row) for row in storage.read_json(path)["tars"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"the part manifest {path} cannot be read ({error}); run `captionmill shard` again"
        ) from None


def read_index(tar: Tar) -> list[Member]:
    """The members of `tar`, after checking that it has the size its index speaks of.

    Raises:
        ShardError: the tar or its index is missing, truncated or not what the manifest says.
    """
    again = "run `captionmill shard` again"
    try:
        size = tar.path.stat().st_size
    except OSError as error:
        raise ShardError(f"shard {tar.path}: {error.strerror}; {again}") from None
    if size != tar.size:
        state = "truncated" if size < tar.size else "longer than it was written"
        raise ShardError(f"shard {tar.path} is {state}: {size:,} of {tar.size:,} bytes; {again}")
    try:
        members = [Member(**row) for row in storage.read_json(tar.index)["samples"]]
        digest = table_digest(members)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"shard index {tar.index} cannot be read ({error}); {again}") from None
    if digest != tar.sha256:
        raise ShardError(f"shard index {tar.index} is not the one that was written; {again}")
    return members


def read_manifest(manifest: _L) -> list[_L]:
    """The part directories of a set, in order.

    Raises:
        ShardError: the manifest is missing or not one.
    """
    try:
        value = storage.read_json(manifest)
        return [manifest.parent.parent / "parts" / part for part in value["parts"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardError(
            f"the shard set's manifest {manifest} cannot be read ({error}); "
            "run `captionmill shard` again"
        ) from None


def split_fingerprint(tars: list[Tar]) -> str:
    """16 hex digits of the content and order of `tars`; independent of paths and times."""
    return storage.fingerprint([[tar.split, tar.count, tar.sha256] for tar in tars])
