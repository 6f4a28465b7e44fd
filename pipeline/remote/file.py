"""An object as a file that can be sought in: ranged reads, nothing kept on disk."""

from __future__ import annotations

import io

from pipeline.remote.blocks import Blocks


class ObjectFile(io.RawIOBase):
    """An object as it was when its `Blocks` were made; read-only."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks, self.name = blocks, str(blocks.path)
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
        ends = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.blocks.stat.st_size}
        if ends[whence] + offset < 0:
            raise ValueError(f"negative seek position {ends[whence] + offset}")
        self._place = ends[whence] + offset
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the stub says Buffer
        """Fill `buffer`, as far as the object goes.

        Raises:
            StorageError: the object was replaced or deleted since.
        """
        data = self.blocks.read(self._place, len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)
