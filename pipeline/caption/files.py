"""The file of an archive, and files that a list names: bytes by place, wherever they are kept.

The one place where an archive's bytes are opened. A tar, a zip or a Parquet file needs an
`ArchiveFile`, and knows no path; another kind of storage is another `ArchiveFile`.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import ArchiveError, ImageError


class ArchiveFile(ABC):
    """A file that is read at any place, by several threads."""

    name: str
    """What messages call it; its extension may tell the kind."""
    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970; 0 where the storage does not say."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """A new binary file at its start, seekable, that the caller closes."""

    @abstractmethod
    def at(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`, fewer only at the end; from any thread.

        Raises:
            OSError: the storage cannot give them.
        """

    def head(self, size: int = 4096) -> bytes:
        """The first bytes."""
        return self.at(0, size)

    def close(self) -> None:
        """Release what `at` holds."""
        return None


class LocalFile(ArchiveFile):
    """A regular file of this machine."""

    def __init__(self, path: Path) -> None:
        """Raises ArchiveError for what is no regular file: a pipe would be waited for."""
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ArchiveError(f"{path} is no regular file; write it to one and give that")
        self.path, self.name = path, str(path)
        self.size, self.modified = status.st_size, status.st_mtime_ns
        self._lock = threading.Lock()
        self._descriptor = -1

    def open(self) -> BinaryIO:
        """See `ArchiveFile`."""
        return open(self.path, "rb")

    def at(self, offset: int, size: int) -> bytes:
        """See `ArchiveFile`."""
        with self._lock:
            if self._descriptor < 0:
                self._descriptor = os.open(self.path, os.O_RDONLY)
        # No more than there is: a claimed size would take its memory first.
        size = min(size, max(self.size - offset, 0))
        data = os.pread(self._descriptor, size, offset)
        # The kernel gives at most 2 GiB a call.
        while len(data) < size and (more := self._rest(offset, size, data)):
            data += more
        return data

    def _rest(self, offset: int, size: int, data: bytes) -> bytes:
        return os.pread(self._descriptor, size - len(data), offset + len(data))

    def close(self) -> None:
        """See `ArchiveFile`."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


def read_regular(path: bytes, most: int) -> bytes:
    """The bytes of a regular file; a last link is not followed, a pipe not waited for.

    Raises:
        ImageError: unreadable_file, or too_many_bytes (more than `most`; not read).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("unreadable_file", "the name is no longer that of a file")
            if status.st_size > most:
                raise too_many_bytes(status.st_size, most)
            data = file.read(most + 1)
    except OSError as error:
        raise unreadable(error) from None
    if len(data) > most:
        raise too_many_bytes(len(data), most)
    return data


def too_many_bytes(size: int, most: int) -> ImageError:
    """The error of a member that is larger than `most`."""
    return ImageError(
        "too_many_bytes", f"{size:,} bytes; at most {most:,} are read (caption.max_bytes)"
    )


def unreadable(error: OSError) -> ImageError:
    """The error of a file that the system does not give."""
    if error.errno == errno.ENOENT:
        return ImageError("unreadable_file", "the file is gone since it was listed")
    code = errno.errorcode.get(error.errno or 0, "unknown error")
    return ImageError("unreadable_file", f"the file cannot be read ({code})")
