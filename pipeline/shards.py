"""Reading shard sets: every sample by position, from plain tars, through the index beside each.

Knows no model and needs no webdataset. A truncated or altered tar is a `ShardError` that
names it, never silently fewer samples.

On disk, all paths relative to the stage's directory:

    parts/<part>/<split>-<n>.tar            WebDataset samples <key>.<jpg|png|...>, <key>.json
    parts/<part>/<split>-<n>.index.json     where every member lies, sizes and SHA-256
    parts/<part>/part.json                  committed last: the part is whole and never changes
    sets/<fingerprint>.json                 the manifest: a list of parts
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import storage
from pipeline.errors import ConfigError, ShardError
from pipeline.records import ShardSet

FORMAT = 1
"""Of the index, part and set files."""


@dataclass(frozen=True)
class Sample:
    """One picture and its captions."""

    key: str
    image: bytes
    captions: list[str]
    info: dict[str, Any]
    """The sample's JSON: id, captions, split, source, file_name, width, height, bytes, sha256, meta."""


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

    path: Path
    split: str
    count: int
    """Samples."""
    captions: int
    size: int
    """Bytes."""
    sha256: str
    """Over the member table, see `table_digest`; not of the tar's own bytes."""

    @property
    def index(self) -> Path:
        """The index beside the tar."""
        return self.path.with_suffix(".index.json")

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
    def of(cls, directory: Path, row: dict[str, Any]) -> Tar:
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


def read_part(directory: Path) -> list[Tar]:
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


def read_manifest(manifest: Path) -> list[Path]:
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


class ShardReader:
    """All samples of one split, by position and front to back; any number of threads may read.

    Holds the indexes and no open file, so it can be sent to another process.

    Args:
        shard_set: The record that `shard` returned.
        split: Which samples.

    Raises:
        ConfigError: the set has no samples of that split; names those it has.
        ShardError: a tar is missing, truncated or does not belong to its index.
    """

    def __init__(self, shard_set: ShardSet, split: str) -> None:
        available = {name: count for name, count in shard_set.samples.items() if count}
        if split not in available:
            known = ", ".join(f"{name} ({count:,})" for name, count in sorted(available.items()))
            raise ConfigError(
                f"the shard set has no split {split!r}; it has {known or 'none'}. Set score.split or "
                "train.validation_split to one of them, or shard.holdout to split what there is"
            )
        parts = read_manifest(Path(shard_set.manifest))
        self.split = split
        self.tars = [tar for part in parts for tar in read_part(part) if tar.split == split]
        self.fingerprint = split_fingerprint(self.tars)
        self._members = [read_index(tar) for tar in self.tars]
        self._ends = list(accumulate(len(members) for members in self._members))
        if not self._ends or self._ends[-1] != available[split]:
            raise ShardError(
                f"the shard set {shard_set.manifest} holds {self._ends[-1] if self._ends else 0:,} "
                f"samples of split {split!r} instead of {available[split]:,}; "
                "run `captionmill shard` again"
            )

    def __repr__(self) -> str:
        return f"ShardReader({self.split!r}, {len(self):,} samples, {len(self.tars)} tars)"

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[Sample]:
        """Every sample once, tar by tar, front to back."""
        for tar, members in zip(self.tars, self._members, strict=True):
            with _open(tar) as descriptor:
                for member in members:
                    yield _sample(descriptor, tar, member)

    def sample(self, i: int) -> Sample:
        """The sample at position `i`, 0 <= i < len(self); its SHA-256 is checked.

        Raises:
            ShardError: its bytes are not those that were written.
        """
        tar, member = self._find(i)
        with _open(tar) as descriptor:
            return _sample(descriptor, tar, member)

    def info(self, i: int) -> dict[str, Any]:
        """The JSON of the sample at position `i`, without reading its picture."""
        tar, member = self._find(i)
        with _open(tar) as descriptor:
            return _info(descriptor, tar, member)

    def infos(self) -> list[dict[str, Any]]:
        """The JSON of every sample in order, without reading a picture."""
        rows: list[dict[str, Any]] = []
        for tar, members in zip(self.tars, self._members, strict=True):
            with _open(tar) as descriptor:
                rows.extend(_info(descriptor, tar, member) for member in members)
        return rows

    def keys(self) -> list[str]:
        """The key of every sample in order, from the indexes alone."""
        return [member.key for members in self._members for member in members]

    def digests(self) -> list[str]:
        """SHA-256 of every sample's picture in order, from the indexes alone."""
        return [member.sha256 for members in self._members for member in members]

    def captions(self) -> list[list[str]]:
        """The captions of every sample in order, without reading a picture."""
        return [info["captions"] for info in self.infos()]

    def _find(self, i: int) -> tuple[Tar, Member]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        n = bisect.bisect_right(self._ends, i)
        return self.tars[n], self._members[n][i - self._ends[n]]


@contextlib.contextmanager
def _open(tar: Tar) -> Iterator[int]:
    try:
        descriptor = os.open(tar.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ShardError(
            f"shard {tar.path}: {error.strerror}; run `captionmill shard` again"
        ) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, tar: Tar, member: Member, offset: int, size: int) -> bytes:
    data = os.pread(descriptor, size, offset)
    if len(data) != size:
        raise ShardError(
            f"shard {tar.path} is truncated: sample {member.key} ends after {len(data):,} of "
            f"{size:,} bytes; run `captionmill shard` again"
        )
    return data


def _check(data: bytes, digest: str, tar: Tar, name: str) -> None:
    if hashlib.sha256(data).hexdigest() != digest:
        raise ShardError(
            f"shard {tar.path} is corrupt: {name} is not what was written (SHA-256 differs); "
            "delete its part's folder and run `captionmill shard` again"
        )


def _info(descriptor: int, tar: Tar, member: Member) -> dict[str, Any]:
    data = _read(descriptor, tar, member, member.json_offset, member.json_size)
    _check(data, member.json_sha256, tar, f"{member.key}.json")
    info: dict[str, Any] = json.loads(data)
    return info


def _sample(descriptor: int, tar: Tar, member: Member) -> Sample:
    info = _info(descriptor, tar, member)
    image = _read(descriptor, tar, member, member.image_offset, member.image_size)
    _check(image, info["sha256"], tar, f"{member.key}.{member.extension}")
    return Sample(member.key, image, info["captions"], info)
