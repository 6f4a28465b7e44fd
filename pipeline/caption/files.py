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
from typing import BinaryIO, NamedTuple

from pipeline.errors import ArchiveError, ImageError


class ArchiveFile(ABC):
    """A file that is read at any place, by several threads."""

    name: str
    """What messages call it; its extension may tell the kind."""
    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970; 0 where the storage does not say."""
    distant = False
    """Whether `at` waits for a network."""

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


class Status(NamedTuple):
    """What listing notes of a file that a list names."""

    size: int = 0
    modified: int = 0
    reason: str | None = None
    """A key of SKIPPED. Of a file that is missing there is nothing to note: reading says so."""


class Files(ABC):
    """The files that a list names: where its paths start, and how they are read."""

    distant = False
    """Whether `read` waits for a network."""

    @abstractmethod
    def status(self, path: bytes) -> Status:
        """Size and time, by stat alone."""

    @abstractmethod
    def read(self, path: bytes, most: int) -> bytes:
        """The file's bytes; from any thread.

        Raises:
            ImageError: unreadable_file, or too_many_bytes (more than `most`; not read).
        """


class LocalFiles(Files):
    """Files of this machine; relative paths start at `base`.

    A list is what its owner wants read, so that a path may be absolute, hold `..` or pass
    through links; with `root` nothing outside that folder is read. Only regular files are.
    """

    def __init__(self, base: Path, root: Path | None = None) -> None:
        self.base = os.fsencode(os.path.realpath(root if root is not None else base))
        self.confined = root is not None

    def status(self, path: bytes) -> Status:
        """See `Files`."""
        real = self._real(path)
        if real is None:
            return Status(reason="outside_root") if self.confined else Status()
        try:
            status = os.lstat(real)
        except (OSError, ValueError):
            return Status()
        if not stat.S_ISREG(status.st_mode):
            return Status(reason="not_a_regular_file")
        return Status(status.st_size, status.st_mtime_ns)

    def read(self, path: bytes, most: int) -> bytes:
        """See `Files`."""
        real = self._real(path)
        if real is None:
            raise ImageError("unreadable_file", "the path leads out of caption.root, or nowhere")
        return read_regular(real, most)

    def _real(self, path: bytes) -> bytes | None:
        try:
            real = os.path.realpath(os.path.join(self.base, path))  # noqa: PTH118  (bytes)
        except (OSError, ValueError):
            # A NUL, or links in a circle.
            return None
        inside = real.startswith(self.base.rstrip(b"/") + b"/")
        return real if inside or not self.confined else None


def read_regular(path: bytes, most: int) -> bytes:
    """The bytes of a regular file; a last link is not followed, a pipe not waited for.

    Raises:
        ImageError: unreadable_file, or too_many_bytes (more than `most`; not read).
    """
    try:
        # Opening is an act of its own for some devices.
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise ImageError("unreadable_file", "the name is not, or no longer, that of a file")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ImageError("unreadable_file", "the name is not, or no longer, that of a file")
            if status.st_size > most:
                raise too_many_bytes(status.st_size, most)
            data = file.read(most + 1)
    except OSError as error:
        raise unreadable(error) from None
    if len(data) > most:
        raise too_many_bytes(len(data), most)
    return data


def why(error: BaseException, otherwise: str) -> str:
    """What the system says of an error, else `otherwise`: a library's words may change."""
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number is not None else otherwise


def too_many_bytes(size: int, most: int) -> ImageError:
    """The error of a member that is larger than `most`."""
    return ImageError(
        "too_many_bytes", f"{size:,} bytes; at most {most:,} are read (caption.max_bytes)"
    )


def unreadable(error: OSError) -> ImageError:
    """The error of a file that the system does not give."""
    if error.errno == errno.ENOENT:
        return ImageError("unreadable_file", "the file is gone since it was listed")
    if error.errno == errno.ENAMETOOLONG:
        return ImageError("unreadable_file", "the name is longer than a file's can be")
    code = errno.errorcode.get(error.errno or 0, "unknown error")
    return ImageError("unreadable_file", f"the file cannot be read ({code})")
