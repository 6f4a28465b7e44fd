"""Byte ranges of one object, fetched side by side and held; ranges close together are one request."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.remote.path import RemotePath

GAP = 64 << 10
"""Bytes between two ranges that are rather fetched than asked for apart."""
LARGEST = 8 << 20
"""Bytes of a request that joins ranges; what is more is asked for side by side."""


TOGETHER = 512
"""Whole objects that are read at once and held."""

Range = tuple[int, int]
"""[start, stop) in bytes."""


class Spans:
    """Some of an object's bytes."""

    def __init__(self, spans: Sequence[Range], data: Sequence[bytes]) -> None:
        self._starts = [start for start, _ in spans]
        self._data = data

    def read(self, size: int, offset: int) -> bytes:
        """`size` bytes from `offset` on, inside one of the spans; fewer if the object ends."""
        first = bisect.bisect_right(self._starts, offset) - 1
        place = offset - self._starts[first]
        return self._data[first][place : place + size]


def fetch(ranges: Mapping[RemotePath, Iterable[Range]]) -> dict[RemotePath, Spans]:
    """What the ranges of each object hold, by requests that run side by side.

    Raises:
        FileNotFoundError: there is no such object.
    """
    from pipeline.remote import s3

    spans = {path: joined(found) for path, found in ranges.items()}
    asks = [s3.Ask(path.bucket, path.key, span) for path, found in spans.items() for span in found]
    data = iter(s3.get_all(asks))
    return {path: Spans(found, [next(data) for _ in found]) for path, found in spans.items()}


def read_objects(directory: RemotePath, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the objects of these names that are there, `TOGETHER` at a time."""
    from pipeline.remote import s3

    rest = iter(names)
    while some := list(itertools.islice(rest, TOGETHER)):
        asks = [s3.Ask(path.bucket, path.key) for path in (directory / name for name in some)]
        for name, content in zip(some, s3.get_some(asks), strict=True):
            if content is not None:
                yield name, content


def joined(ranges: Iterable[Range]) -> list[Range]:
    """The ranges in order, neighbours joined; no range is cut."""
    spans: list[Range] = []
    for start, stop in sorted(ranges):
        if spans:
            first, end = spans[-1]
            if start <= end + GAP and (stop <= end or stop - first <= LARGEST):
                spans[-1] = (first, max(end, stop))
                continue
        spans.append((start, stop))
    return spans
