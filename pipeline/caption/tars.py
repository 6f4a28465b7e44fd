"""A tar as an archive: plain, compressed or WebDataset, read in place and never extracted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import PurePath
from typing import BinaryIO

from pipeline.caption.files import ArchiveFile, too_many_bytes, why
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
from pipeline.caption.tar_headers import BLOCK, Entry, is_header, is_whole_header, walk
from pipeline.caption.unpack import DAMAGE, Unpacked, is_packed
from pipeline.caption.unpack import EXTENSIONS as PACKED
from pipeline.errors import ArchiveError, ImageError

SIDECARS = ("json", "txt")
MOST_IN_SAMPLE = 1000
"""Members of one key that are held to pair them; a tar may give all its members one key."""
_NAMES = (".tgz", ".tbz2", ".txz", ".tzst")


class Tar(Archive):
    """Members in the order of the tar. A damaged tail is one failed member without a name.

    A WebDataset sample is a run of members with one key (the name up to the first dot of its
    last part). If it holds a picture, its `.json` and `.txt` are that picture's meta.
    """

    kind = "tar"

    def __init__(self, file: ArchiveFile) -> None:
        self.file = file
        self.sequential = is_packed(file.head(8))
        self.distant = file.distant
        self._lock = threading.Lock()
        self._stream: Unpacked | None = None
        self._last: tuple[Sidecar, bytes | str] | None = None

    def members(self) -> Iterator[Member]:
        """One pass over the headers; a compressed tar is unpacked for it."""
        occurrences = Occurrences()
        sample: list[Member] = []
        key = None
        for member in self._headers():
            if _key(member.name) != key or len(sample) == MOST_IN_SAMPLE:
                yield from _numbered(_paired(sample), occurrences)
                sample, key = [], _key(member.name)
            sample.append(member)
        yield from _numbered(_paired(sample), occurrences)

    def _headers(self) -> Iterator[Member]:
        with closing(self._open()) as stream:
            first = True
            try:
                for entry in walk(stream):
                    first = False
                    if entry is None:
                        yield Member("", code="damaged_archive")
                    elif not entry.directory:
                        yield _member(entry)
            except DAMAGE as error:
                if first:
                    raise ArchiveError(
                        f"{self.file.name} is not a tar that can be read:"
                        f" {why(error, 'it has no header that is whole')};"
                        " check it with `tar tf`"
                    ) from None
                # A compressed stream that ends or goes wild: what follows cannot be known.
                yield Member("", code="damaged_archive")

    def _open(self) -> BinaryIO | Unpacked:
        return Unpacked(self.file) if self.sequential else self.file.open()

    def read(self, member: Member, most: int) -> bytes:
        """The member's bytes, from where the listing found them."""
        if member.size > most:
            raise too_many_bytes(member.size, most)
        try:
            data = self._bytes(member.offset, member.size)
            # A tar that was written anew meanwhile has other bytes here, of another picture maybe.
            moved = not self.sequential and not is_whole_header(
                self.file.at(member.offset - BLOCK, BLOCK)
            )
        except DAMAGE:
            raise ImageError("unreadable_member", "the archive cannot be read here") from None
        if moved:
            raise ImageError("unreadable_member", "the archive has no member here any more")
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
                    self._stream = Unpacked(self.file)
                try:
                    self._stream.seek(offset)
                    return self._stream.read(size)
                except DAMAGE:
                    self._stream.close()
                    self._stream = None
                    raise
        return self.file.at(offset, size)

    def meta(self, member: Member) -> str | None:
        """The sample's `.json` and `.txt` as JSON text."""
        return combine({sidecar.kind: self._sidecar(sidecar) for sidecar in member.sidecars})

    def _sidecar(self, sidecar: Sidecar) -> bytes | str:
        # The last one is kept: the pictures of a sample share it, and going back in a
        # compressed tar means starting over.
        if self._last is not None and self._last[0] == sidecar:
            return self._last[1]
        content: bytes | str
        if sidecar.size > META_BYTES:
            content = "too_many_bytes"
        else:
            try:
                content = self._bytes(sidecar.offset, sidecar.size)
            except DAMAGE:
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


def _member(entry: Entry) -> Member:
    name = text_name(entry.name)
    where = (entry.size, entry.modified, entry.offset)
    if not entry.regular:
        return Member(name, 0, *where, reason="not_a_regular_file")
    reason = skip_reason(name)
    # A sparse file's bytes are not what lies in the tar.
    code = "unreadable_member" if reason is None and entry.sparse else None
    return Member(name, 0, *where, reason=reason, code=code)


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
        # One of each kind, the last: a tar may repeat a name without end.
        own = {s.kind: s for stem, s in sidecars if _is_picture(member) and _belongs(stem, picture)}
        yield _replace(member, member.occurrence, tuple(own.values()))


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
    """Whether the file is a tar, plain or compressed, by its content and else by its name."""
    name = PurePath(file.name.lower())
    extensions = "".join(name.suffixes[-2:])
    named = name.suffix in (".tar", *_NAMES) or extensions in [f".tar{end}" for end in PACKED]
    head = file.head(BLOCK)
    if is_packed(head):
        try:
            with closing(Unpacked(file)) as stream:
                head = stream.read(BLOCK)
        except DAMAGE:
            return named
    return named or is_header(head)
