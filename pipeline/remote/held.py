"""Ranges of many objects out of whole blocks that are held a while: for reading front to back.

Several places are read in turn, each front to back, as an epoch's streams are; a block is fetched
by the first range in it and serves those that follow.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import NamedTuple

from pipeline.remote.path import RemotePath
from pipeline.remote.spans import LARGEST, Range

BLOCK = 1 << 20
"""Bytes."""

_Key = tuple[RemotePath, int]


class View(NamedTuple):
    """Some blocks of an object."""

    blocks: Mapping[int, Future[bytes]]
    size: int
    """Bytes of a block."""

    def read(self, size: int, offset: int) -> bytes:
        """`size` bytes from `offset` on, inside these blocks; fewer if the object ends."""
        if size == 0:
            return b""
        first, last = offset // self.size, (offset + size - 1) // self.size
        data = b"".join(self.blocks[number].result() for number in range(first, last + 1))
        return data[offset - first * self.size : offset + size - first * self.size]


class HeldBlocks:
    """At most `kept` blocks; any number of threads may ask."""

    def __init__(self, kept: int) -> None:
        self.kept, self.size = kept, BLOCK
        self._held: OrderedDict[_Key, Future[bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, ranges: Mapping[RemotePath, Iterable[Range]]) -> dict[RemotePath, View]:
        """As `pipeline.remote.spans.fetch`.

        Raises:
            FileNotFoundError: there is no such object.
        """
        wanted = {
            path: sorted(
                {n for a, b in spans for n in range(a // self.size, -(-b // self.size)) if a < b}
            )
            for path, spans in ranges.items()
        }
        found: dict[RemotePath, dict[int, Future[bytes]]] = {}
        missing: dict[_Key, Future[bytes]] = {}
        with self._lock:
            for path, numbers in wanted.items():
                found[path] = {}
                for number in numbers:
                    key = (path, number)
                    if (future := self._held.get(key)) is None:
                        future = missing[key] = self._held[key] = Future()
                    self._held.move_to_end(key)
                    found[path][number] = future
            while len(self._held) > self.kept:
                self._held.popitem(last=False)
        if missing:
            self._fill(missing)
        return {path: View(blocks, self.size) for path, blocks in found.items()}

    def _fill(self, missing: Mapping[_Key, Future[bytes]]) -> None:
        from pipeline.remote import s3

        runs = self._runs(missing)
        asks = [
            s3.Ask(path.bucket, path.key, (numbers[0] * self.size, (numbers[-1] + 1) * self.size))
            for path, numbers in runs
        ]
        try:
            data = s3.get_all(asks)
        except BaseException as error:
            with self._lock:
                for key in missing:
                    self._held.pop(key, None)
            for future in missing.values():
                future.set_exception(error)
            raise
        for (path, numbers), content in zip(runs, data, strict=True):
            for place, number in enumerate(numbers):
                block = content[place * self.size : (place + 1) * self.size]
                missing[path, number].set_result(block)

    def _runs(self, keys: Iterable[_Key]) -> list[tuple[RemotePath, list[int]]]:
        """Blocks in a row, which are one request."""
        runs: list[tuple[RemotePath, list[int]]] = []
        for path, number in keys:
            whose, last = runs[-1] if runs else (None, [])
            follows = whose == path and last[-1] == number - 1
            if follows and (len(last) + 1) * self.size <= LARGEST:
                last.append(number)
            else:
                runs.append((path, [number]))
        return runs
