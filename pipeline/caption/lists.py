"""A list of files as an archive: a text file with a path a line, or JSON Lines."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from pipeline.caption.files import ArchiveFile, Files
from pipeline.caption.members import Archive, Member, Occurrences, Sidecar, skip_reason, text_name
from pipeline.caption.meta import dump
from pipeline.errors import ArchiveError

TEXTS = (".txt", ".lst", ".list")
JSONS = (".jsonl", ".ndjson")
PATHS = ("image", "path", "file_name", "filename", "file", "image_path", "file_path", "filepath")
LONGEST_LINE = 1 << 20
"""Bytes; a longer line is a member of its own that says so."""
_WINDOW = 1 << 20


class _Line(NamedTuple):
    offset: int
    content: bytes
    whole: bool
    """Whether it is not cut at LONGEST_LINE."""


class FileList(Archive):
    """Members in the order of the lines; an empty line is none.

    A line of JSON Lines is a path as a text, or an object with one; its other keys are meta.
    """

    kind = "list"
    gone = "unreadable_file"

    def __init__(self, file: ArchiveFile, files: Files, key: str | None = None) -> None:
        """`key` is where an object holds the path, if not under one of PATHS."""
        self.file, self.files, self.distant = file, files, files.distant
        self.keys = PATHS if key is None else (key,)
        self.objects = file.name.lower().endswith(JSONS)
        if file.head(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise ArchiveError(f"{file.name} is written in UTF-16; write it in UTF-8")

    def members(self) -> Iterator[Member]:
        """One pass over the list, and a stat for each path."""
        occurrences = Occurrences()
        for number, line in enumerate(self._lines(), 1):
            if line.content:
                yield self._member(number, line, occurrences)

    def _member(self, number: int, line: _Line, occurrences: Occurrences) -> Member:
        found = self._parse(line.content)[0] if self.objects else line.content
        if not line.whole or not found or b"\0" in found:
            name = f"line {number}"
            return Member(name, occurrences.next(name), offset=line.offset, code="bad_line")
        name = text_name(found)
        # The file's own name: that a hidden folder lies above it is its owner's business.
        reason, status = skip_reason(name.rpartition("/")[2]), self.files.status(found)
        own = Sidecar("line", line.offset, len(line.content))
        return Member(
            *(name, occurrences.next(name), status.size, status.modified, line.offset),
            reason=reason or status.reason,
            raw=found if name.encode() != found else None,
            sidecars=(own,) if self.objects else (),
        )

    def _parse(self, content: bytes) -> tuple[bytes | None, dict[str, Any]]:
        """The path of a line of JSON, and what else it holds."""
        try:
            value = json.loads(content)
        except (ValueError, RecursionError):
            return None, {}
        if isinstance(value, str):
            return _encoded(value), {}
        if not isinstance(value, dict):
            return None, {}
        key = next((key for key in self.keys if isinstance(value.get(key), str)), None)
        return (None if key is None else _encoded(value.pop(key))), value

    def _lines(self) -> Iterator[_Line]:
        """Lines without their ends, in bounded memory."""
        position, content, rest = 0, b"", b""
        while content := self.file.at(position, _WINDOW):
            begin = position - len(rest)
            position += len(content)
            *whole, rest = (rest + content).split(b"\n")
            for line in whole:
                yield _line(begin, line)
                begin += len(line) + 1
            if len(rest) > LONGEST_LINE:
                yield _line(begin, rest)
                position, rest = self._line_end(position), b""
        if rest:
            yield _line(position - len(rest), rest)

    def _line_end(self, position: int) -> int:
        while content := self.file.at(position, _WINDOW):
            found = content.find(b"\n")
            if found >= 0:
                return position + found + 1
            position += len(content)
        return position

    def read(self, member: Member, most: int) -> bytes:
        """The bytes of the file that the line names."""
        path = member.raw if member.raw is not None else member.name.encode()
        return self.files.read(path, most)

    def meta(self, member: Member) -> str | None:
        """The other keys of the line's object."""
        for sidecar in member.sidecars:
            _, found = self._parse(self.file.at(sidecar.offset, sidecar.size))
            return dump(found) if found else None
        return None

    def close(self) -> None:
        """Close the list."""
        self.file.close()


def is_list(file: ArchiveFile) -> bool:
    """Whether the file is called a list; its content does not tell."""
    return file.name.lower().endswith((*TEXTS, *JSONS))


def _line(offset: int, content: bytes) -> _Line:
    whole = len(content) <= LONGEST_LINE
    if offset == 0 and content.startswith(codecs.BOM_UTF8):
        offset, content = len(codecs.BOM_UTF8), content.removeprefix(codecs.BOM_UTF8)
    return _Line(offset, content.removesuffix(b"\r") if whole else content[:1], whole)


def _encoded(path: str) -> bytes | None:
    try:
        # Python writes bytes that are no UTF-8 as lone surrogates of a certain range.
        return path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return None
