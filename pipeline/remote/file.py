"""An object as a file that can be sought in: ranged reads, nothing kept on disk.

Wrapped in a `BufferedReader`; pictures lie beside each other, so what is read ahead is used.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.remote.path import RemotePath

BLOCK = 1 << 20
"""Bytes that are asked for at least."""


class ObjectFile(io.RawIOBase):
    """The object of `path` as it was when it was opened; read-only.

    Raises:
        FileNotFoundError: there is none.
        OSError: when reading, if it was replaced since.
    """

    def __init__(self, path: RemotePath) -> None:
        self.path, self.name = path, str(path)
        self.stat = path.stat()
        self._place = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """Bytes from the start."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; no request is made."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.stat.st_size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._place = start + offset
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # io's own stub says Buffer
        """Fill `buffer` by one request, as far as the object goes."""
        stop = min(self._place + len(buffer), self.stat.st_size)
        if stop <= self._place:
            return 0
        from pipeline.remote import s3

        span = (self._place, stop)
        data = s3.get_all([s3.Ask(self.path.bucket, self.path.key, span, self.stat.etag)])[0]
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)
