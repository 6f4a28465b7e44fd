"""A tar as an archive: plain, gzipped or WebDataset, read in place and never extracted."""

from __future__ import annotations

import gzip
import tarfile
import threading
import zlib
from collections.abc import Iterator
from typing import IO, cast

from pipeline.caption.files import ArchiveFile, too_many_bytes
from pipeline.caption.members import (
    EXTENSIONS,
    Archive,
    Member,
    Occurrences,
    Sidecar,
    skip_reason,
    text_name,
)
from pipeline.caption.meta import META_BYTES, combine
from pipeline.errors import ArchiveError, ImageError

# What the standard library raises over hostile or damaged tar headers and gzip streams.
_DAMAGE = (
    *(tarfile.TarError, EOFError, OSError, zlib.error),
    *(ValueError, OverflowError, RecursionError, MemoryError),
)
SIDECARS = ("json", "txt")


class Tar(Archive):
    """Members in the order of the tar. A damaged tail is one failed member without a name.

    A WebDataset sample is a run of members with one key (the name up to the first dot of its
    last part). If it holds a picture, its `.json` and `.txt` are that picture's meta.
    """

    kind = "tar"

    def __init__(self, file: ArchiveFile) -> None:
        self.file = file
        self.sequential = file.head(2) == b"\x1f\x8b"
        self._lock = threading.Lock()
        self._stream: IO[bytes] | None = None
        self._last: tuple[Sidecar, bytes | str] | None = None

    def members(self) -> Iterator[Member]:
        """One pass over the headers; a gzipped tar is decompressed for it."""
        occurrences = Occurrences()
        sample: list[Member] = []
        key = None
        for member in self._headers():
            if _key(member.name) != key:
                yield from _numbered(_paired(sample), occurrences)
                sample, key = [], _key(member.name)
            sample.append(member)
        yield from _numbered(_paired(sample), occurrences)

    def _headers(self) -> Iterator[Member]:
        with self._open() as stream:
            try:
                yield from _walk(stream)
            except _DAMAGE as error:
                # The first header already: a gzip that is no tar, or a file of another kind.
                raise ArchiveError(
                    f"{self.file.name} is not a tar that can be read ({type(error).__name__});"
                    " check it with `tar tf`"
                ) from None

    def _open(self) -> IO[bytes]:
        if self.sequential:
            return cast("IO[bytes]", gzip.open(self.file.open(), "rb"))
        return self.file.open()

    def read(self, member: Member, most: int) -> bytes:
        """The member's bytes, from where the listing found them."""
        if member.size > most:
            raise too_many_bytes(member.size, most)
        try:
            data = self._bytes(member.offset, member.size)
        except _DAMAGE:
            raise ImageError("unreadable_member", "the archive cannot be read here") from None
        if len(data) < member.size:
            raise ImageError(
                "unreadable_member",
                f"the archive ends inside this member ({len(data):,} of {member.size:,} bytes)",
            )
        return data

    def _bytes(self, offset: int, size: int) -> bytes:
        if self.sequential:
            with self._lock:
                if self._stream is None:
                    self._stream = self._open()
                try:
                    self._stream.seek(offset)
                    return self._stream.read(size)
                except _DAMAGE:
                    self._stream.close()
                    self._stream = None
                    raise
        return self.file.at(offset, size)

    def meta(self, member: Member) -> str | None:
        """The sample's `.json` and `.txt` as JSON text."""
        return combine({sidecar.kind: self._sidecar(sidecar) for sidecar in member.sidecars})

    def _sidecar(self, sidecar: Sidecar) -> bytes | str:
        # The last one is kept: the pictures of a sample share it, and going back in a
        # gzipped tar means starting over.
        if self._last is not None and self._last[0] == sidecar:
            return self._last[1]
        content: bytes | str
        if sidecar.size > META_BYTES:
            content = "too_many_bytes"
        else:
            try:
                content = self._bytes(sidecar.offset, sidecar.size)
            except _DAMAGE:
                content = "unreadable_member"
        self._last = (sidecar, content)
        return content

    def close(self) -> None:
        """Close the tar."""
        with self._lock:
            if self._stream is not None:
                self._stream.close()
                self._stream = None
        self.file.close()


def _walk(stream: IO[bytes]) -> Iterator[Member]:
    """Members from headers alone; damage after the first header is the last member."""
    with tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
        try:
            last = -1
            while (entry := tar.next()) is not None:
                # A header may claim a negative size, which would list in circles.
                if not last < entry.offset_data <= tar.offset < 1 << 62:
                    raise tarfile.ReadError
                last = entry.offset_data
                # tarfile would keep every header it has seen.
                vars(tar)["members"].clear()
                if not entry.isdir():
                    yield _member(entry)
            whole = _ends_here(stream, tar.offset)
        except _DAMAGE:
            whole = False
    if not whole:
        yield Member("", code="damaged_archive")


def _member(entry: tarfile.TarInfo) -> Member:
    raw = entry.name.encode("utf-8", "surrogateescape")
    name = text_name(raw)
    modified = int(entry.mtime * 1e9) if 0 <= entry.mtime < 1e10 else 0
    where = (entry.size, modified, entry.offset_data)
    if not entry.isreg():
        return Member(name, 0, *where, reason="not_a_regular_file")
    reason = skip_reason(name)
    # A sparse file's bytes are not what lies in the tar.
    code = "unreadable_member" if reason is None and entry.issparse() else None
    return Member(name, 0, *where, reason=reason, code=code)


def _ends_here(stream: IO[bytes], offset: int) -> bool:
    """Whether a tar whose last member ends at `offset` is over: a block of zeros, and only zeros.

    Without its end marker a tar may have been cut between two members, which nothing else tells.
    """
    stream.seek(offset)
    zeros = 0
    while block := stream.read(1 << 20):
        if block.strip(b"\0"):
            return False
        zeros += len(block)
    return zeros >= tarfile.BLOCKSIZE


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _paired(sample: list[Member]) -> Iterator[Member]:
    """A sample's members, with each `.json` and `.txt` moved into the pictures it belongs to.

    `a.json` belongs to `a.jpg`, and to `a.left.jpg` too; `a.left.json` to the latter alone.
    """
    stems = [_stem(member.name) for member in sample if _is_picture(member)]
    sidecars: list[tuple[str, Sidecar]] = []
    kept: list[Member] = []
    for member in sample:
        stem, kind = _stem(member.name), _extension(member.name)
        if (
            member.reason == "other_file_type"
            and kind in SIDECARS
            and any(_belongs(stem, picture) for picture in stems)
        ):
            sidecars.append((stem, Sidecar(kind, member.offset, member.size)))
        else:
            kept.append(member)
    for member in kept:
        picture = _stem(member.name)
        own = [sidecar for stem, sidecar in sidecars if _belongs(stem, picture)]
        yield _replace(member, member.occurrence, tuple(own) if _is_picture(member) else ())


def _is_picture(member: Member) -> bool:
    return member.is_input and _extension(member.name) in EXTENSIONS


def _belongs(stem: str, picture: str) -> bool:
    return picture == stem or picture.startswith(stem + ".")


def _numbered(members: Iterator[Member], occurrences: Occurrences) -> Iterator[Member]:
    for member in members:
        yield _replace(member, occurrences.next(member.name), member.sidecars)


def _replace(member: Member, occurrence: int, sidecars: tuple[Sidecar, ...]) -> Member:
    return Member(
        *(member.name, occurrence, member.size, member.modified, member.offset),
        *(member.reason, member.code, member.raw, sidecars),
    )


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _extension(name: str) -> str:
    return name.rpartition("/")[2].rpartition(".")[2].lower()


def is_tar(file: ArchiveFile) -> bool:
    """Whether the file is a tar, plain or gzipped, by its content and else by its name."""
    head, named = file.head(512), file.name.lower().endswith((".tar", ".tar.gz", ".tgz"))
    if head[:2] == b"\x1f\x8b":
        try:
            with file.open() as packed, gzip.open(packed, "rb") as stream:
                head = stream.read(512)
        except _DAMAGE:
            return named
    return head[257:262] == b"ustar" or named
