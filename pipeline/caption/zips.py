"""A zip as an archive, read in place and never extracted."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime

from pipeline.caption.files import ArchiveFile, too_many_bytes
from pipeline.caption.members import Archive, Member, Occurrences, skip_reason, text_name
from pipeline.errors import ArchiveError, ImageError

_DAMAGE = (
    *(zipfile.BadZipFile, EOFError, OSError, zlib.error),
    *(ValueError, NotImplementedError, RuntimeError, OverflowError, MemoryError),
)


class Zip(Archive):
    """Members in the order of the zip's directory."""

    kind = "zip"

    def __init__(self, file: ArchiveFile) -> None:
        self.file = file.open()
        try:
            self.zip = zipfile.ZipFile(self.file)
        except _DAMAGE as error:
            raise ArchiveError(
                f"{file.name} is not a zip that can be read ({type(error).__name__});"
                " check it with `unzip -t`, or pack it again"
            ) from None
        self.entries = self.zip.infolist()

    def members(self) -> Iterator[Member]:
        """From the zip's directory alone."""
        occurrences = Occurrences()
        for place, entry in enumerate(self.entries):
            if not entry.is_dir():
                yield _member(place, entry, occurrences)

    def read(self, member: Member, most: int) -> bytes:
        """The member's bytes, its check sum verified."""
        if member.size > most:
            raise too_many_bytes(member.size, most)
        entry = self.entries[member.offset]
        if entry.flag_bits & 0x1:
            raise ImageError(
                "encrypted_member", "the member is encrypted; pack it without a password"
            )
        try:
            with self.zip.open(entry) as file:
                # The directory's size is a claim; no more than it is ever inflated.
                data = file.read(member.size)
        except _DAMAGE:
            raise ImageError(
                "unreadable_member",
                "the zip is damaged here, or packs this member in a way that is not read",
            ) from None
        if len(data) < member.size:
            raise ImageError(
                "unreadable_member",
                f"the member ends after {len(data):,} of {member.size:,} bytes",
            )
        return data

    def close(self) -> None:
        """Close the zip."""
        self.zip.close()
        self.file.close()


def _member(place: int, entry: zipfile.ZipInfo, occurrences: Occurrences) -> Member:
    name = _name(entry)
    mode = entry.external_attr >> 16
    odd = stat.S_IFMT(mode) not in (0, stat.S_IFREG) and entry.create_system == 3
    return Member(
        name,
        occurrences.next(name),
        entry.file_size,
        _modified(entry.date_time),
        place,
        reason="not_a_regular_file" if odd else skip_reason(name),
    )


def _name(entry: zipfile.ZipInfo) -> str:
    if entry.flag_bits & 0x800:
        return entry.orig_filename
    # Without the flag a name is CP437 by the standard, but UTF-8 as most programs write it.
    raw = entry.orig_filename.encode("cp437")
    return raw.decode("utf-8") if text_name(raw).encode() == raw else entry.orig_filename


def _modified(moment: tuple[int, int, int, int, int, int]) -> int:
    try:
        return int(datetime(*moment, tzinfo=UTC).timestamp()) * 10**9
    except ValueError:
        return 0
