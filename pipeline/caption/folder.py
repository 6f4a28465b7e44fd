"""A folder as an archive: every file below it, sorted; listing takes names and stat alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from pipeline.caption.files import read_regular
from pipeline.caption.members import Archive, Member, Occurrences, skip_reason, text_name
from pipeline.errors import ArchiveError, ImageError


class Folder(Archive):
    """Files in the order of their raw names, each subfolder where its own name stands.

    Links to files inside the folder are read as the files that they are; links to folders
    are not followed. `exclude` is a directory that is left out (the table, if it lies here).
    """

    kind = "folder"
    gone = "unreadable_file"

    def __init__(self, path: Path, exclude: Path | None = None) -> None:
        self.root = os.fsencode(os.path.realpath(path))
        self.exclude = os.fsencode(os.path.realpath(exclude)) if exclude is not None else None

    def members(self) -> Iterator[Member]:
        """Depth first; nothing but one folder's names is held at a time."""
        try:
            stack = [(b"", iter(self._entries(b"")))]
        except OSError as error:
            raise ArchiveError(
                f"the folder {os.fsdecode(self.root)} cannot be listed: {error.strerror}"
            ) from None
        occurrences = Occurrences()
        while stack:
            prefix, entries = stack[-1]
            entry = next(entries, None)
            if entry is None:
                stack.pop()
                continue
            name, _, kind = entry.rpartition(b"\0")
            relative = prefix + name
            if kind != b"d":
                yield self._member(relative, kind, occurrences)
            elif self._path(relative) != self.exclude:
                try:
                    stack.append((relative + b"/", iter(self._entries(relative))))
                except OSError:
                    yield _named(relative + b"/", occurrences, code="unreadable_directory")

    def _entries(self, relative: bytes) -> list[bytes]:
        # One bytes object an entry, `name NUL kind`: names hold no NUL, it sorts below every
        # other byte, and a folder of a million files fits in memory.
        with os.scandir(self._path(relative)) as entries:
            return sorted(entry.name + b"\0" + _kind(entry) for entry in entries)

    def _member(self, relative: bytes, kind: bytes, occurrences: Occurrences) -> Member:
        if kind == b"o":
            return _named(relative, occurrences, reason="not_a_regular_file")
        path, reason = self._path(relative), None
        if kind == b"l":
            path = os.path.realpath(path)
            reason = self._link_reason(path)
        try:
            status = os.lstat(path)
        except OSError:
            # Vanished between listing and stat, or a link to nothing: reading says so.
            return _named(relative, occurrences, reason=reason)
        return _named(relative, occurrences, status.st_size, status.st_mtime_ns, reason=reason)

    def _link_reason(self, target: bytes) -> str | None:
        if not self._inside(target):
            return "link_outside_archive"
        try:
            regular = stat.S_ISREG(os.lstat(target).st_mode)
        except OSError:
            # A link to nothing: reading it fails, and that is its row.
            regular = True
        return None if regular else "not_a_regular_file"

    def _inside(self, target: bytes) -> bool:
        return target == self.root or target.startswith(self.root.rstrip(b"/") + b"/")

    def _path(self, relative: bytes) -> bytes:
        return self.root + b"/" + relative if relative else self.root

    def read(self, member: Member, most: int) -> bytes:
        """The file's bytes, if it is still a regular file inside the folder."""
        relative = member.raw if member.raw is not None else member.name.encode()
        path = self._path(relative)
        # The file or a folder above it may have become a link since it was listed.
        real = os.path.realpath(path)
        if not self._inside(real):
            raise ImageError("unreadable_file", "the file now lies out of the folder, by a link")
        return read_regular(real, most)


def _kind(entry: os.DirEntry[bytes]) -> bytes:
    if entry.is_symlink():
        return b"l"
    if entry.is_dir(follow_symlinks=False):
        return b"d"
    return b"f" if entry.is_file(follow_symlinks=False) else b"o"


def _named(
    relative: bytes,
    occurrences: Occurrences,
    size: int = 0,
    modified: int = 0,
    *,
    reason: str | None = None,
    code: str | None = None,
) -> Member:
    name = text_name(relative)
    raw = relative if name.encode() != relative else None
    # A folder has a name once; only an encoded one can meet its literal twin.
    occurrence = occurrences.next(name) if "%" in name else 0
    reason = reason or (None if code else skip_reason(name))
    return Member(name, occurrence, size, modified, reason=reason, code=code, raw=raw)
