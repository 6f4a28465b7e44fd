"""A tar of WebDataset samples, written straight to a file descriptor; knows no picture.

The bytes are those of `webdataset.TarWriter` with a fixed owner and time, for a small part of its
work: members differ in name and size alone, so a header is a template with those two put in,
and a sample goes to the kernel in one call, from where its bytes already lie.
"""

from __future__ import annotations

import os
import tarfile

_BLOCK = tarfile.BLOCKSIZE
_WRITEBACK = 4 << 20
"""Bytes after which the kernel is told to start writing them to disk."""


def _template() -> bytes:
    info = tarfile.TarInfo()
    info.mode, info.mtime, info.uname, info.gname = 0o444, 0, "captionmill", "captionmill"
    return info.tobuf(tarfile.USTAR_FORMAT)


_HEADER = _template()
_OWNER, _TIME, _REST = _HEADER[100:124], _HEADER[136:148], _HEADER[156:]
_SUM = sum(_OWNER) + sum(_TIME) + 8 * ord(" ") + sum(_REST)
"""Of a header's bytes but name and size; the checksum counts its own field as spaces."""


class SampleTar:
    """Adds samples to a tar, from the start of an empty file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = self._flushed = 0

    def add(self, key: str, members: dict[str, bytes]) -> dict[str, int]:
        """Write a sample, its members by extension; returns where in the file each begins."""
        offsets: dict[str, int] = {}
        pieces: list[bytes] = []
        size = self._size
        for extension in sorted(members):
            data = members[extension]
            offsets[extension] = size + _BLOCK
            padding = -len(data) % _BLOCK
            pieces += _header(f"{key}.{extension}", len(data)), data, bytes(padding)
            size += _BLOCK + len(data) + padding
        self._write(pieces, size)
        return offsets

    def close(self) -> None:
        """Write the end of the archive; the descriptor stays open."""
        end = self._size + 2 * _BLOCK
        end += -end % tarfile.RECORDSIZE
        self._write([bytes(end - self._size)], end)

    def _write(self, pieces: list[bytes], size: int) -> None:
        written = self._size + os.writev(self._descriptor, pieces)
        if written < size:  # a signal, or a disk that is nearly full
            rest = memoryview(b"".join(pieces))[written - size :]
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._size = size
        if size - self._flushed >= _WRITEBACK:
            self._start_writeback()

    def _start_writeback(self) -> None:
        """Let the disk work while the next pictures are hashed: the commit then waits less."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(
                self._descriptor, self._flushed, self._size - self._flushed, os.POSIX_FADV_DONTNEED
            )
        self._flushed = self._size


def _header(name: str, size: int) -> bytes:
    encoded, length = name.encode("ascii"), b"%011o\0" % size
    assert len(encoded) <= 100, name
    checksum = b"%06o\0 " % (_SUM + sum(encoded) + sum(length))
    return b"".join((encoded.ljust(100, b"\0"), _OWNER, length, _TIME, checksum, _REST))
