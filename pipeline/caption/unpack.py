"""A compressed file as a stream of its content: gzip, bzip2, xz and zstandard.

Forward reading in bounded memory; going back starts over. Nothing is written to disk.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import BinaryIO, Protocol

import pyarrow as pa

from pipeline.caption.files import ArchiveFile

DAMAGE = (
    *(EOFError, OSError, zlib.error, lzma.LZMAError),
    *(ValueError, OverflowError, MemoryError),
)
"""What decompressors raise over damaged or hostile streams."""

MOST_DICTIONARY = 512 << 20
"""An xz may claim to need more memory than this; it is then damaged."""
_CHUNK = 1 << 16


class _Decoder(Protocol):
    """One gzip, bzip2 or xz stream of those that may follow each other in a file."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface of bz2's and lzma's; checks length and CRC."""

    def __init__(self, wbits: int = 31) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _xz() -> _Decoder:
    return lzma.LZMADecompressor(memlimit=MOST_DICTIONARY)


def raw_decoder(method: int, head: bytes, size: int) -> tuple[_Decoder, int] | None:
    """The decoder of a zip member's compression method, and how many bytes of `head` it takes.

    None for a method that is not read. `size` is what the member may unpack to; an LZMA
    dictionary larger than that is not needed, whatever is claimed.

    Raises:
        lzma.LZMAError, ValueError: the member's LZMA properties are not valid.
    """
    if method == 8:
        return _Gzip(-15), 0
    if method == 12:
        return bz2.BZ2Decompressor(), 0
    if method != 14:
        return None
    # APPNOTE 5.8.8: version, length of the properties, properties (as in LZMA's own header).
    if len(head) < 9 or head[2:4] != b"\5\0":
        raise ValueError("properties of another length")
    packed, dictionary = head[4], int.from_bytes(head[5:9], "little")
    properties = {
        "id": lzma.FILTER_LZMA1,
        "dict_size": max(4096, min(dictionary, size)),
        "lc": packed % 9,
        "lp": packed // 9 % 5,
        "pb": packed // 45,
    }
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[properties]), 9


_KINDS: dict[bytes, Callable[[], _Decoder]] = {
    b"\x1f\x8b": _Gzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\xfd7zXZ\0": _xz,
}
_ZSTD = b"\x28\xb5\x2f\xfd"
EXTENSIONS = (".gz", ".bz2", ".xz", ".zst")


def is_packed(head: bytes) -> bool:
    """Whether a file that begins so is compressed in a way that is read here."""
    return head.startswith((*_KINDS, _ZSTD))


class Unpacked:
    """The content of a compressed file.

    `read` and `seek` raise one of DAMAGE where the file is damaged or ends too early.
    """

    def __init__(self, file: ArchiveFile) -> None:
        self._file = file
        self._head = file.head(8)
        self.position = 0
        self._start()

    def _start(self) -> None:
        self._handle: BinaryIO = self._file.open()
        self.position = 0
        self._zstd: pa.CompressedInputStream | None = None
        self._decoder: _Decoder | None = None
        if self._head.startswith(_ZSTD):
            source = pa.PythonFile(self._handle, mode="r")
            self._zstd = pa.CompressedInputStream(source, "zstd")
        else:
            self._decoder = self._next(self._head)

    def _next(self, head: bytes) -> _Decoder:
        for magic, kind in _KINDS.items():
            if head.startswith(magic):
                return kind()
        raise EOFError("something else follows the compressed stream")

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end of the content."""
        pieces = []
        while size > 0 and (piece := self._some(min(size, 1 << 20))):
            pieces.append(piece)
            size -= len(piece)
            self.position += len(piece)
        return b"".join(pieces)

    def seek(self, offset: int) -> None:
        """Move to `offset`, or to the end if the content is shorter."""
        if offset < self.position:
            self.close()
            self._start()
        while self.position < offset and self.read(min(offset - self.position, 1 << 20)):
            pass

    def _some(self, most: int) -> bytes:
        if self._zstd is not None:
            found: bytes = self._zstd.read(most)
            return found
        assert self._decoder is not None
        data = b""
        while True:
            if self._decoder.eof:
                following = self._following(self._decoder.unused_data)
                if not following:
                    return b""
                self._decoder, data = self._next(following), following
            elif self._decoder.needs_input:
                data = self._handle.read(_CHUNK)
                if not data:
                    raise EOFError("the compressed stream ends too early")
            piece = self._decoder.decompress(data, most)
            data = b""
            if piece:
                return piece

    def _following(self, rest: bytes) -> bytes:
        """What follows a stream that ended, past the zeros that tapes and disks pad with."""
        while True:
            rest = rest.lstrip(b"\0")
            if len(rest) >= 6 or not (more := self._handle.read(_CHUNK)):
                return rest
            rest += more

    def close(self) -> None:
        """Close the file."""
        self._handle.close()
