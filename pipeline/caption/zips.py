"""A zip as an archive, read in place and never extracted."""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator

from pipeline.caption.files import ArchiveFile, too_many_bytes
from pipeline.caption.members import Archive, Member, Occurrences, skip_reason, text_name
from pipeline.caption.unpack import DAMAGE, raw_decoder
from pipeline.caption.zip_directory import Directory, Entry, ZipDamageError
from pipeline.errors import ArchiveError, ImageError

_CHUNK = 1 << 16
_UNIX = 3


class Zip(Archive):
    """Members in the order of the zip's directory, each told by its place there."""

    kind = "zip"

    def __init__(self, file: ArchiveFile) -> None:
        self.file, self.distant = file, file.distant
        try:
            self.directory = Directory(file)
        except ZipDamageError as error:
            raise ArchiveError(
                f"{file.name} is not a zip that can be read: {error};"
                " check it with `unzip -t`, or pack it again"
            ) from None

    def members(self) -> Iterator[Member]:
        """From the zip's directory alone; what lies behind a damaged entry cannot be listed."""
        occurrences, overlaps = Occurrences(), self.directory.overlaps()
        for entry in self.directory.entries():
            if entry is None:
                yield Member("", occurrences.next(""), code="damaged_archive")
                return
            name = _name(entry)
            # A path as Windows programs wrote it is data like any other, but names folders.
            path = name if "/" in name else name.replace("\\", "/")
            if path.endswith("/") or entry.directory:
                continue
            reason = skip_reason(path)
            kind = stat.S_IFMT(entry.attributes >> 16) if entry.system == _UNIX else 0
            if kind not in (0, stat.S_IFREG):
                reason = "not_a_regular_file"
            code = None
            if reason is None and entry.flags & 0x1:
                code = "encrypted_member"
            elif reason is None and overlaps.has(entry):
                code = "overlapping_member"
            where = (occurrences.next(name), entry.size, entry.modified, entry.place)
            yield Member(name, *where, reason=reason, code=code)

    def read(self, member: Member, most: int) -> bytes:
        """The member's bytes, its check sum verified."""
        if member.size > most:
            raise too_many_bytes(member.size, most)
        try:
            entry = self.directory.entry(member.offset)
            begin = None if entry is None else self.directory.data(entry)
            if entry is None or begin is None or _name(entry) != member.name:
                raise ImageError("unreadable_member", "the zip is damaged here")
            data = self._unpack(entry, begin, min(entry.size, most))
        except DAMAGE:
            raise ImageError("unreadable_member", "the zip is damaged here") from None
        if len(data) < entry.size:
            raise ImageError(
                "unreadable_member", f"the member ends after {len(data):,} of {entry.size:,} bytes"
            )
        if zlib.crc32(data) != entry.checksum:
            raise ImageError("unreadable_member", "the member's check sum is wrong")
        return data

    def _unpack(self, entry: Entry, begin: int, size: int) -> bytes:
        """Up to `size` bytes of content; no more is ever unpacked, whatever there is."""
        if entry.method == 0:
            return self.file.at(begin, min(entry.packed, size))
        end = begin + entry.packed
        found = raw_decoder(entry.method, self.file.at(begin, min(9, entry.packed)), size)
        if found is None:
            raise ImageError(
                "unreadable_member",
                f"packed by method {entry.method}, which is not read; stored, deflate, bzip2"
                " and LZMA are",
            )
        decoder, taken = found
        begin += taken
        pieces = []
        while size > 0 and not decoder.eof:
            data = b""
            if decoder.needs_input:
                data = self.file.at(begin, min(_CHUNK, end - begin))
                begin += len(data)
                if not data:
                    break
            piece = decoder.decompress(data, size)
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Close the zip."""
        self.file.close()


def _name(entry: Entry) -> str:
    text = text_name(entry.name)
    if entry.utf8 or text.encode() == entry.name:
        return text
    # Without the flag a name is CP437 by the standard, but UTF-8 as most programs write it.
    return entry.name.decode("cp437")


def is_zip(file: ArchiveFile) -> bool:
    """Whether a zip's directory lies at the end of the file; something else may lie before."""
    try:
        Directory(file)
    except ZipDamageError:
        return file.head(4) == b"PK\3\4"
    return True
