"""Reading shard sets: every sample by position, from plain tars, through the index beside each.

Knows no model and needs no webdataset. A truncated or altered tar is a `ShardError` that
names it, never silently fewer samples.

On object storage samples are fetched by ranged reads, those that lie side by side together.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import Any, TypeVar

from pipeline.errors import ConfigError, ShardError
from pipeline.records import ShardSet
from pipeline.remote import RemotePath, location
from pipeline.shard_bytes import (
    Checked,
    Fetch,
    Found,
    Sample,
    read_infos,
    read_pictures,
    read_samples,
)
from pipeline.shard_tars import read_index, read_manifest, read_part, split_fingerprint

__all__ = ["Sample", "ShardReader"]

REQUESTS = 16
"""Files of a set on object storage that are read at once."""

_T = TypeVar("_T")
_R = TypeVar("_R")


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
        manifest = location(shard_set.manifest)
        self.remote = isinstance(manifest, RemotePath)
        self.split = split
        parts = self._each(read_part, read_manifest(manifest))
        self.tars = [tar for part in parts for tar in part if tar.split == split]
        self.fingerprint = split_fingerprint(self.tars)
        self._members = self._each(read_index, self.tars)
        self._checked = Checked()
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
            yield from read_samples([(tar, member) for member in members])

    def sample(self, i: int) -> Sample:
        """The sample at position `i`, 0 <= i < len(self); its SHA-256 is checked.

        Raises:
            ShardError: its bytes are not those that were written.
        """
        return next(read_samples([self._find(i)]))

    def pictures(self, rows: Sequence[int], fetch: Fetch | None = None) -> Iterator[bytes]:
        """The encoded pictures at these positions, in that order, without the rest of the sample.

        Of local tars each is hashed when it is first read, and again where the tar changed since.

        Raises:
            ShardError: see `sample`.
        """
        found = [self._find(row) for row in rows]
        checked = self._checked
        return (
            read_pictures(found, checked) if fetch is None else read_pictures(found, checked, fetch)
        )

    def info(self, i: int) -> dict[str, Any]:
        """The JSON of the sample at position `i`, without reading its picture."""
        tar, member = self._find(i)
        return read_infos(tar, [member])[0]

    def infos(self) -> list[dict[str, Any]]:
        """The JSON of every sample in order, without reading a picture."""
        tables = list(zip(self.tars, self._members, strict=True))
        rows = self._each(lambda table: read_infos(*table), tables)
        return [info for some in rows for info in some]

    def keys(self) -> list[str]:
        """The key of every sample in order, from the indexes alone."""
        return [member.key for members in self._members for member in members]

    def digests(self) -> list[str]:
        """SHA-256 of every sample's picture in order, from the indexes alone."""
        return [member.sha256 for members in self._members for member in members]

    def captions(self) -> list[list[str]]:
        """The captions of every sample in order, without reading a picture."""
        return [info["captions"] for info in self.infos()]

    def _find(self, i: int) -> Found:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        n = bisect.bisect_right(self._ends, i)
        return self.tars[n], self._members[n][i - self._ends[n]]

    def _each(self, function: Callable[[_T], _R], items: Sequence[_T]) -> list[_R]:
        """`function` of every item; where they are requests, several at once."""
        if not self.remote:
            return [function(item) for item in items]
        with ThreadPoolExecutor(REQUESTS) as pool:
            return list(pool.map(function, items))
