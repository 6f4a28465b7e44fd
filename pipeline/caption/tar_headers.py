"""The headers of a tar: V7, ustar, GNU and pax (POSIX.1-2017, `pax`; GNU tar manual, "Basic Tar Format").

Reads headers alone, one after the other, in bounded memory whatever they claim. Written
here because the standard library's reader takes the memory that a long name claims to need,
and gives up at the first damaged header.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

BLOCK = 512
LONGEST_NAME = 1 << 16
"""Bytes, as in a zip. A plan holds some 65,000 names at a time."""
MOST_EXTENSION = 1 << 20
"""Bytes of a long name's header or of a pax header."""
_ZEROS = bytes(BLOCK)
_WINDOW = 1 << 20
_LINKS_AND_DEVICES = b"123456"


class Stream(Protocol):
    """A tar's bytes: a file, or what a compressed file unpacks to."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; fewer only at the end."""

    def seek(self, offset: int, /) -> object:
        """Move to `offset`; behind the end nothing is read."""


class Entry(NamedTuple):
    """A member as its headers describe it."""

    name: bytes
    size: int
    modified: int
    """Nanoseconds since 1970, 0 if absurd."""
    offset: int
    """Of its bytes."""
    kind: bytes
    """The type flag."""
    sparse: bool

    @property
    def regular(self) -> bool:
        """Whether it is a file with content of its own."""
        return self.kind in b"\x000" or self.kind in b"7S"

    @property
    def directory(self) -> bool:
        """Whether it is a directory; V7 said so with a slash."""
        return self.kind in b"5D" or (self.kind in b"\x000" and self.name.endswith(b"/"))


class _DamagedHeaderError(Exception):
    """No header, or one that contradicts itself."""


@dataclass
class _Extension:
    """What extension headers say of the next member."""

    name: bytes | None = None
    size: int | None = None
    modified: int | None = None
    sparse: bool = False


def walk(stream: Stream) -> Iterator[Entry | None]:
    """Entries in order; None stands for a damaged stretch, after which the next header is sought.

    A tar that was appended to another is read on. Without its end marker (a block of zeros)
    a tar may have been cut between two members, which nothing else tells: None.

    Raises:
        EOFError: there is no header anywhere.
    """
    position, ended, extension = 0, False, _Extension()
    while True:
        stream.seek(position)
        block = stream.read(BLOCK)
        if block == _ZEROS:
            ended, extension = True, _Extension()
            position = _past_zeros(stream, position + BLOCK)
            continue
        if len(block) < BLOCK:
            if position == 0:
                raise EOFError("no tar header")
            if not ended or block.strip(b"\0"):
                yield None
            return
        try:
            header = _parse(block)
            if header.kind in b"xXgLK":
                _extend(extension, header, _content(stream, position, header))
                position = _after(position + BLOCK, header.size)
                continue
            start = position + BLOCK
            if header.kind == b"S" and block[482]:
                start = _past_sparse_map(stream, start)
            entry = _entry(header, extension, start)
        except _DamagedHeaderError:
            following = _next_header(stream, position + BLOCK)
            if position == 0 and following is None:
                raise EOFError("no tar header") from None
            yield None
            if following is None:
                return
            position, extension = following, _Extension()
            continue
        yield entry
        extension, ended = _Extension(), False
        position = start if entry.kind in _LINKS_AND_DEVICES else _after(start, entry.size)


def is_header(block: bytes) -> bool:
    """Whether a file that begins with this block is a tar, if maybe a damaged one."""
    try:
        named = len(block) == BLOCK and block != _ZEROS and bool(_parse(block).name)
    except _DamagedHeaderError:
        named = False
    return named or block[257:262] == b"ustar"


def is_whole_header(block: bytes) -> bool:
    """Whether the block is a header whose check sum is right."""
    try:
        return len(block) == BLOCK and _parse(block).size >= 0
    except _DamagedHeaderError:
        return False


def _parse(block: bytes) -> Entry:
    """A header as it is, without its extensions."""
    try:
        told = _number(block[148:156])
        unsigned = 256 + sum(block[:148]) + sum(block[156:])
        if told != unsigned and told != _signed_sum(block):
            raise _DamagedHeaderError
        size, modified = _number(block[124:136]), _number(block[136:148])
    except ValueError:
        raise _DamagedHeaderError from None
    if not 0 <= size < 1 << 62:
        raise _DamagedHeaderError
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and (prefix := block[345:500].partition(b"\0")[0]):
        name = prefix + b"/" + name
    kind = block[156:157]
    return Entry(name, size, _nanoseconds(modified), 0, kind, kind == b"S")


def _signed_sum(block: bytes) -> int:
    # Some old programs added the bytes as signed numbers.
    return 256 + sum(b - 256 if b > 127 else b for b in block[:148] + block[156:])


def _number(field: bytes) -> int:
    """Octal digits, or GNU's base 256 for what they cannot hold."""
    if field[:1] in (b"\x80", b"\xff"):
        value = int.from_bytes(field[1:], "big")
        return value if field[0] == 0x80 else value - (1 << 8 * (len(field) - 1))
    return int(field.partition(b"\0")[0].strip() or b"0", 8)


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9) if 0 <= seconds < 1e10 else 0


def _content(stream: Stream, position: int, header: Entry) -> bytes:
    if header.size > MOST_EXTENSION:
        raise _DamagedHeaderError
    stream.seek(position + BLOCK)
    content = stream.read(header.size)
    if len(content) < header.size:
        raise _DamagedHeaderError
    return content


def _extend(extension: _Extension, header: Entry, content: bytes) -> None:
    if header.kind == b"L":
        extension.name = content.partition(b"\0")[0]
    # Headers for all that follows, and the targets of links, say nothing of use here.
    if header.kind not in b"xX":
        return
    for key, value in _records(content):
        # A sparse file's path is a made-up one; its own comes before it.
        if key == b"GNU.sparse.name" or (key == b"path" and extension.name is None):
            extension.name = value
        try:
            if key == b"size":
                extension.size = int(value)
            elif key == b"mtime":
                extension.modified = _nanoseconds(float(value))
        except (ValueError, OverflowError):
            raise _DamagedHeaderError from None
        extension.sparse |= key.startswith(b"GNU.sparse.")


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The `length key=value` lines of a pax header."""
    position = 0
    while position < len(content) and content[position]:
        digits, space, _ = content[position : position + 20].partition(b" ")
        if not space or not digits.isdigit():
            raise _DamagedHeaderError
        end = position + int(digits)
        key, equals, value = content[position + len(digits) + 1 : end - 1].partition(b"=")
        if end <= position or end > len(content) or not equals or content[end - 1] != 0x0A:
            raise _DamagedHeaderError
        yield key, value
        position = end


def _entry(header: Entry, extension: _Extension, start: int) -> Entry:
    size = header.size if extension.size is None else extension.size
    if not 0 <= size < 1 << 62 or len(extension.name or b"") > LONGEST_NAME:
        raise _DamagedHeaderError
    return header._replace(
        name=header.name if extension.name is None else extension.name,
        size=size,
        modified=header.modified if extension.modified is None else extension.modified,
        offset=start,
        sparse=header.sparse or extension.sparse,
    )


def _after(start: int, size: int) -> int:
    return start + (size + BLOCK - 1) // BLOCK * BLOCK


def _past_sparse_map(stream: Stream, position: int) -> int:
    """Behind the blocks that continue an old GNU sparse header."""
    stream.seek(position)
    for _ in range(MOST_EXTENSION // BLOCK):
        block = stream.read(BLOCK)
        position += BLOCK
        if len(block) < BLOCK:
            break
        if not block[504]:
            return position
    raise _DamagedHeaderError


def _past_zeros(stream: Stream, position: int) -> int:
    """The first block from `position` on that is not all zeros, or the end."""
    stream.seek(position)
    while window := stream.read(_WINDOW):
        rest = window.lstrip(b"\0")
        if rest:
            return position + (len(window) - len(rest)) // BLOCK * BLOCK
        position += len(window)
    return position


def _next_header(stream: Stream, position: int) -> int | None:
    """Where the next ustar header begins, if there is one."""
    stream.seek(position)
    while window := stream.read(_WINDOW):
        found = window.find(b"ustar")
        while found >= 0:
            start = found - 257
            if start >= 0 and start % BLOCK == 0:
                try:
                    _parse(window[start : start + BLOCK])
                    return position + start
                except _DamagedHeaderError:
                    pass
            found = window.find(b"ustar", found + 1)
        position += len(window)
    return None
