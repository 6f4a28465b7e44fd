"""What an archive lists: members, the names they get in the table, and which are pictures.

Names are data: they are compared and stored, and never joined to a path that is written.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

EXTENSIONS = frozenset(
    {
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp"),
        *("tif", "tiff", "avif", "heic", "heif", "hif", "apng", "dib"),
    }
)
"""A member with one of these, or without any extension, is an input; others are skipped."""

SKIPPED = {
    "other_file_type": "the extension is not a picture's",
    "hidden_file": "a hidden file, or in a hidden folder",
    "link_outside_archive": "a symbolic link that leads out of the folder",
    "outside_root": "the path leads out of the folder that caption.root names",
    "not_a_regular_file": "a link, a device or another thing without content of its own",
}
"""Why a member is not an input."""

FAILED = {
    "unreadable_directory": "the folder cannot be listed",
    "unreadable_file": "the file is gone since it was listed, or cannot be read",
    "unreadable_member": "the member is gone since it was listed, or cannot be read",
    "encrypted_member": "the member is encrypted",
    "overlapping_member": "the member shares its bytes with another, as in a zip bomb",
    "null_cell": "the row holds no picture",
    "bad_line": "the line names no file",
    "damaged_archive": "the archive is damaged here; what may follow cannot be listed",
}
"""Why an input could not even be read; the decoder's own codes come on top."""


class Sidecar(NamedTuple):
    """What came with a picture: a WebDataset sample's `.json` or `.txt`, a list's line."""

    kind: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Member:
    """One thing that an archive holds. `(source, name, occurrence)` is its key."""

    name: str
    occurrence: int = 0
    """0 for the first member of that name, 1 for the next, ..."""
    size: int = 0
    modified: int = 0
    """Nanoseconds since 1970; 0 where the archive does not say."""
    offset: int = 0
    """tar: where the bytes start; zip: of its entry; Parquet: row; list: of the line."""
    reason: str | None = None
    """A key of SKIPPED: not an input."""
    code: str | None = None
    """A key of FAILED: an input that is known to be lost without reading it."""
    raw: bytes | None = None
    """The name as it is on disk, where it is not UTF-8."""
    sidecars: tuple[Sidecar, ...] = ()

    @property
    def is_input(self) -> bool:
        """Whether this is, or may be, a picture."""
        return self.reason is None and self.code is None


class Archive(ABC):
    """Lists members in an order that depends on the content alone, and reads their bytes."""

    kind: str
    sequential = False
    """Whether reading is only quick in the order of the listing, by one thread."""
    distant = False
    """Whether a read waits for a network, so that many at once are quicker."""
    gone = "unreadable_member"
    """The code of a member that the archive no longer holds."""

    @abstractmethod
    def members(self) -> Iterator[Member]:
        """Every member, streaming; directories are not members.

        Raises:
            ArchiveError: the archive cannot be listed at all.
        """

    @abstractmethod
    def read(self, member: Member, most: int) -> bytes:
        """The member's bytes; may be called from several threads.

        Raises:
            ImageError: too_many_bytes (more than `most`; not read), or a code of FAILED.
        """

    def meta(self, member: Member) -> str | None:
        """JSON text that came with the member."""
        return None

    def close(self) -> None:
        """Release files."""
        return None


class Occurrences:
    """Numbers equal names; 11 to 22 bytes a distinct name, however long.

    Names are told apart by 64 bits of a digest: among 10^9 of them one in forty lists would
    number a name 1 that is alone, which is a key like any other.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * 1024))
        self._used = 0
        self._again: dict[int, int] = {}

    def next(self, name: str) -> int:
        """0 for a new name, 1 the second time, ..."""
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        # 0 marks a free slot.
        number = int.from_bytes(digest, "little") or 1
        if not _insert(self._slots, number):
            self._again[number] = self._again.get(number, 0) + 1
            return self._again[number]
        self._used += 1
        if 4 * self._used > 3 * len(self._slots):
            larger = array("Q", bytes(16 * len(self._slots)))
            for kept in self._slots:
                if kept:
                    _insert(larger, kept)
            self._slots = larger
        return 0


def _insert(slots: array[int], number: int) -> bool:
    """Put a number into a table of 2^n slots; False if it is there."""
    mask = len(slots) - 1
    at = number & mask
    while kept := slots[at]:
        if kept == number:
            return False
        at = (at + 1) & mask
    slots[at] = number
    return True


def key_digest(source: str, name: str, occurrence: int) -> bytes:
    """16 bytes that stand for a key where a million of them are held in memory."""
    text = f"{len(source)}:{source}{occurrence}:{name}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def text_name(raw: bytes) -> str:
    """A name as text: UTF-8 as it is, else with every byte that is not ASCII as %XX."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw)


def skip_reason(name: str) -> str | None:
    """Why a regular file of this name is not an input, or None if it is one."""
    parts = name.split("/") if name.startswith(".") or "/." in name else ()
    if any(part.startswith(".") and part not in (".", "..") for part in parts):
        return "hidden_file"
    _, dot, extension = name.rpartition("/")[2].rpartition(".")
    return "other_file_type" if dot and extension and extension.lower() not in EXTENSIONS else None
