"""Reads of any size at any place of an object, out of blocks that are fetched once and kept a while.

Members of an archive lie side by side, and threads read several at once: what one of them fetched,
the next finds here. Memory is bounded for all objects of the process together.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, ClassVar

from pipeline.errors import StorageError

if TYPE_CHECKING:
    from pipeline.remote.path import RemotePath

BLOCK = 1 << 20
"""Bytes."""
KEPT = 64
"""Blocks of a process."""
AHEAD = 3
"""Blocks that are fetched beyond what is asked for, where reading goes front to back."""
DIRECT = 16
"""Blocks; a longer read is fetched as it is and not kept."""


class Blocks:
    """The object of `path` as it is when this is made; any number of threads may read.

    Raises:
        FileNotFoundError: there is no such object.
    """

    _kept: ClassVar[OrderedDict[tuple[RemotePath, str, int], Future[bytes]]] = OrderedDict()
    _lock = threading.Lock()

    def __init__(self, path: RemotePath) -> None:
        self.path, self.stat = path, path.stat()
        self._last = (self.stat.st_size - 1) // BLOCK

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`, fewer only at the end.

        Raises:
            StorageError: the object was replaced or deleted since.
        """
        stop = min(offset + size, self.stat.st_size)
        if stop <= offset:
            return b""
        first, last = offset // BLOCK, (stop - 1) // BLOCK
        if last - first >= DIRECT:
            return self._fetch(offset, stop)
        blocks = self._blocks(first, last)
        data = b"".join(block.result() for block in blocks) if first < last else blocks[0].result()
        return data[offset - first * BLOCK : stop - first * BLOCK]

    def _blocks(self, first: int, last: int) -> list[Future[bytes]]:
        """The blocks `first` to `last`; those that nobody has asked for are fetched, in one request."""
        mine: dict[int, Future[bytes]] = {}
        found: list[Future[bytes]] = []
        with self._lock:
            for number in range(first, last + 1):
                if (future := self._kept.get(self._key(number))) is None:
                    future = mine[number] = self._kept[self._key(number)] = Future()
                self._kept.move_to_end(self._key(number))
                found.append(future)
            if mine and self._key(first - 1) in self._kept:
                for number in range(last + 1, min(last + AHEAD, self._last) + 1):
                    if self._key(number) not in self._kept:
                        mine[number] = self._kept[self._key(number)] = Future()
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        if mine:
            self._fill(mine)
        return found

    def _key(self, number: int) -> tuple[RemotePath, str, int]:
        return (self.path, self.stat.etag, number)

    def _fill(self, futures: dict[int, Future[bytes]]) -> None:
        begin = min(futures) * BLOCK
        end = min((max(futures) + 1) * BLOCK, self.stat.st_size)
        try:
            data = self._fetch(begin, end)
        except BaseException as error:
            with self._lock:
                for number in futures:
                    self._kept.pop(self._key(number), None)
            for future in futures.values():
                future.set_exception(error)
            raise
        for number, future in futures.items():
            future.set_result(data[number * BLOCK - begin : (number + 1) * BLOCK - begin])

    def _fetch(self, start: int, stop: int) -> bytes:
        from pipeline.remote import s3

        ask = s3.Ask(self.path.bucket, self.path.key, (start, stop), self.stat.etag)
        try:
            return s3.get_all([ask])[0]
        except FileNotFoundError:
            raise StorageError(
                f"{self.path} was deleted while it was read; run the same command again"
            ) from None
