"""Archives on object storage: a prefix as a folder, an object as an archive's file, lists of URLs."""

from __future__ import annotations

import bisect
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from pipeline.caption.files import ArchiveFile, Files, Status, too_many_bytes, unreadable
from pipeline.caption.members import Archive, Member, skip_reason
from pipeline.errors import ArchiveError, ImageError
from pipeline.remote import RemotePath
from pipeline.remote.blocks import Blocks
from pipeline.remote.file import ObjectFile
from pipeline.remote.path import SCHEME, Stat


def modified(stat: Stat) -> int:
    """A time in nanoseconds that is another whenever the content is.

    Stores tell whole seconds; what comes below them is a sum of the object's tag, so that an
    object that is replaced within a second, by one of the same size, is seen to have changed.
    """
    return stat.st_mtime_ns // 10**9 * 10**9 + zlib.crc32(stat.etag.encode()) % 10**9


class RemoteFile(ArchiveFile):
    """An object, as it was when this was made; read by ranges."""

    distant = True

    def __init__(self, path: RemotePath) -> None:
        """Raises FileNotFoundError if there is no such object."""
        self.blocks, self.name = Blocks(path), str(path)
        self.size, self.modified = self.blocks.stat.st_size, modified(self.blocks.stat)

    def open(self) -> BinaryIO:
        """See `ArchiveFile`."""
        return cast("BinaryIO", io.BufferedReader(ObjectFile(self.blocks), 1 << 16))

    def at(self, offset: int, size: int) -> bytes:
        """See `ArchiveFile`; StorageError if the object was replaced or deleted meanwhile."""
        return self.blocks.read(offset, size)


class Prefix(Archive):
    """The objects below a prefix, by key. `exclude` is a prefix that is left out (the table's)."""

    kind = "folder"
    distant = True
    gone = "unreadable_file"

    def __init__(self, path: RemotePath, exclude: RemotePath | None = None) -> None:
        self.path = path
        self._exclude = None if exclude is None else exclude / ""

    def members(self) -> Iterator[Member]:
        """Page after page; nothing but a page is held at a time."""
        length = len((self.path / "").key) if self.path.key else 0
        for path, stat in self.path.entries(below=True):
            # A key that ends with a slash stands for a folder, where tools make them.
            if path.key.endswith("/") or self._is_excluded(path):
                continue
            name = path.key[length:]
            yield Member(name, 0, stat.st_size, modified(stat), reason=skip_reason(name))

    def _is_excluded(self, path: RemotePath) -> bool:
        out = self._exclude
        return out is not None and path.bucket == out.bucket and path.key.startswith(out.key)

    def read(self, member: Member, most: int) -> bytes:
        """The object's bytes."""
        if member.size > most:
            raise too_many_bytes(member.size, most)
        return read_object(self.path / member.name, most)


class RemoteFiles(Files):
    """Objects that a list names: URLs, or keys that start at `base`.

    With `confined` nothing that does not begin with `base` is read. Keys are literal: `..` is a
    name like any other.
    """

    distant = True

    def __init__(self, base: RemotePath, confined: bool = False) -> None:
        self.base, self.confined = base, confined
        self._page = _Page()

    def status(self, path: bytes) -> Status:
        """See `Files`; a list in the order of its keys needs a request a thousand lines."""
        found = self._path(path)
        if found is None:
            return Status(reason="outside_root") if self.confined else Status()
        stat = self._page.find(found)
        return Status() if stat is None else Status(stat.st_size, modified(stat))

    def read(self, path: bytes, most: int) -> bytes:
        """See `Files`."""
        found = self._path(path)
        if found is None:
            raise ImageError("unreadable_file", "the path leads out of caption.root, or nowhere")
        return read_object(found, most)

    def _path(self, path: bytes) -> RemotePath | None:
        try:
            text = path.decode()
        except UnicodeDecodeError:
            return None  # keys are UTF-8
        if not text.startswith(SCHEME):
            return self.base / text.removeprefix("./")
        bucket, _, key = text.removeprefix(SCHEME).partition("/")
        inside = bucket == self.base.bucket and key.startswith((self.base / "").key)
        return RemotePath(bucket, key) if bucket and key and (inside or not self.confined) else None


class AnyFiles(Files):
    """Files of this machine, and objects where a path is a URL."""

    distant = True

    def __init__(self, local: Files) -> None:
        self.local, self.remote = local, RemoteFiles(RemotePath(""))

    def status(self, path: bytes) -> Status:
        """See `Files`."""
        return self._of(path).status(path)

    def read(self, path: bytes, most: int) -> bytes:
        """See `Files`."""
        return self._of(path).read(path, most)

    def _of(self, path: bytes) -> Files:
        return self.remote if path.startswith(SCHEME.encode()) else self.local


class _Page:
    """One page of a listing, from the last key on that was asked for and not on it."""

    def __init__(self) -> None:
        self._bucket = ""
        self._after, self._to = b"", b""
        self._keys: list[bytes] = []
        self._stats: list[Stat] = []

    def find(self, path: RemotePath) -> Stat | None:
        """What is known of an object; None if it is not there."""
        key = path.key.encode()
        if path.bucket != self._bucket or not self._after < key <= self._to:
            self._turn(path)
        place = bisect.bisect_left(self._keys, key)
        if place < len(self._keys) and self._keys[place] == key:
            return self._stats[place]
        if key <= self._to:
            return None
        # A thousand keys lie between this one and its own beginning.
        try:
            return path.stat()
        except FileNotFoundError:
            return None

    def _turn(self, path: RemotePath) -> None:
        from pipeline.remote import s3

        after, folder = path.key[:-1], path.key.rpartition("/")[0]
        prefix = f"{folder}/" if folder else ""
        rows, more = s3.page(path.bucket, Prefix=prefix, **({"StartAfter": after} if after else {}))
        self._bucket, self._after = path.bucket, after.encode()
        self._keys = [key.encode() for key, _ in rows]
        self._stats = [stat for _, stat in rows]
        # To the end of the folder, where there is no further page.
        self._to = self._keys[-1] if more is not None else prefix.encode() + b"\xff"


def read_object(path: RemotePath, most: int) -> bytes:
    """The bytes of an object.

    Raises:
        ImageError: unreadable_file, or too_many_bytes (more than `most`).
        StorageError: the store cannot be reached, or refuses.
    """
    from pipeline.remote import s3

    try:
        data = s3.get_all([s3.Ask(path.bucket, path.key, (0, most + 1))])[0]
    except OSError as error:
        raise unreadable(error) from None
    if len(data) > most:
        raise too_many_bytes(len(data), most)
    return data


def open_remote(path: RemotePath, exclude: RemotePath | None) -> Prefix | RemoteFile:
    """The folder or the file that a URL names.

    Raises:
        ArchiveError: there is neither.
    """
    try:
        if path.key:
            return RemoteFile(path)
    except FileNotFoundError:
        pass
    if not path.is_dir():
        raise ArchiveError(f"there is no object {path}, and no key begins with {path / ''}")
    return Prefix(path, exclude)
