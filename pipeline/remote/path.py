"""`s3://` URLs as paths: the part of pathlib's interface that objects can keep.

There are no directories: a path is a prefix as soon as keys begin with it and a slash. Keys are
data: they are passed as they are, neither unquoted nor normalised.
"""

from __future__ import annotations

import fnmatch
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from pipeline.errors import ConfigError

SCHEME = "s3://"


class Stat(NamedTuple):
    """What is known of an object without reading it."""

    st_size: int
    """Bytes."""
    st_mtime_ns: int
    """Nanoseconds since 1970."""
    etag: str
    """Another one whenever the content is another."""


class Entry(NamedTuple):
    """One object of a listing."""

    path: RemotePath
    stat: Stat


@dataclass(frozen=True, order=True, slots=True)
class RemotePath:
    """An object, or the prefix of several. Requests raise what `pipeline.remote.s3` says.

    It is no `os.PathLike`: what opens local files refuses it.
    """

    bucket: str
    key: str = ""
    """Without a slash at the end; empty for the whole bucket."""

    @classmethod
    def parse(cls, url: str) -> RemotePath:
        """The path of `s3://bucket/key`.

        Raises:
            ConfigError: no such URL; says what one looks like.
        """
        bucket, _, key = url.removeprefix(SCHEME).partition("/")
        if not url.startswith(SCHEME) or not bucket:
            raise ConfigError(f"{url!r} is not a URL of object storage; write s3://bucket/prefix")
        if "@" in bucket:
            raise ConfigError(
                f"{url}: credentials do not belong into a URL, which is stored and shown; "
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        return cls(bucket, key.rstrip("/"))

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}" if self.key else f"{SCHEME}{self.bucket}"

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(self.bucket, f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The last part of the key; the bucket's name if there is none."""
        return self.key.rpartition("/")[2] or self.bucket

    @property
    def suffix(self) -> str:
        """The name's last extension, with its dot."""
        return PurePosixPath(self.name).suffix

    @property
    def stem(self) -> str:
        """The name without its last extension."""
        return self.name.removesuffix(self.suffix)

    @property
    def parent(self) -> RemotePath:
        """What comes before the last slash."""
        return RemotePath(self.bucket, self.key.rpartition("/")[0])

    def with_name(self, name: str) -> RemotePath:
        """The path with another last part."""
        return self.parent / name

    def with_suffix(self, suffix: str) -> RemotePath:
        """The path with another last extension."""
        return self.with_name(self.stem + suffix)

    def resolve(self) -> RemotePath:
        """Itself: there are no links."""
        return self

    def absolute(self) -> RemotePath:
        """Itself: a URL depends on no working directory."""
        return self

    def stat(self) -> Stat:
        """Size, time and tag of the object; FileNotFoundError if there is none."""
        from pipeline.remote import s3

        return s3.head(self.bucket, self.key)

    def exists(self) -> bool:
        """Whether there is an object of this key, or any below it."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Whether there is an object of exactly this key."""
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def read_bytes(self) -> bytes:
        """The whole object; FileNotFoundError if there is none."""
        from pipeline.remote import s3

        return s3.get_all([s3.Ask(self.bucket, self.key)])[0]

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole object as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> None:
        """Put the whole object: readers see what was there, or all of this."""
        from pipeline.remote import s3

        s3.put(self.bucket, self.key, data)

    def upload(self, file: IO[bytes]) -> None:
        """Put the rest of `file` as the whole object, in parts if it is large."""
        from pipeline.remote import s3

        s3.upload(self.bucket, self.key, file)

    def open(self) -> IO[bytes]:
        """The object as a file that can be read and sought in, by ranged requests."""
        from pipeline.remote.blocks import Blocks
        from pipeline.remote.file import ObjectFile

        return io.BufferedReader(ObjectFile(Blocks(self)), 1 << 16)

    def unlink(self, missing_ok: bool = True) -> None:
        """Delete the object; the store does not say whether there was one."""
        from pipeline.remote import s3

        assert missing_ok, "a store deletes what is not there without a word"
        s3.delete(self.bucket, self.key)

    def entries(self, *, below: bool = False) -> Iterator[Entry]:
        """The objects directly under this prefix, or all `below` it, by key, page after page."""
        from pipeline.remote import s3

        prefix = f"{self.key}/" if self.key else ""
        for key, stat in s3.listing(self.bucket, prefix, deep=below):
            yield Entry(RemotePath(self.bucket, key), stat)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """The objects directly under this prefix whose names fit, by key."""
        assert "/" not in pattern, "one level"
        for path, _ in self.entries():
            if fnmatch.fnmatchcase(path.name, pattern):
                yield path

    def is_dir(self) -> bool:
        """Whether any key lies under this prefix."""
        return next(self.entries(below=True), None) is not None


Location = Path | RemotePath
"""Where something lies: on local disk or on object storage."""


def is_url(text: str) -> bool:
    """Whether `text` is a URL and not a local path."""
    scheme, found, _ = text.partition("://")
    return bool(found) and scheme.isalnum() and scheme[0].isalpha()


def location(text: str) -> Location:
    """What `text` names: a RemotePath for `s3://bucket/key`, else a local path.

    Raises:
        ConfigError: a URL of another kind, or an empty text, as of a variable that is not set.
    """
    if text.startswith(SCHEME):
        return RemotePath.parse(text)
    if not text:
        raise ConfigError("an empty path; the folder one is in is written as `.`")
    if is_url(text):
        raise ConfigError(
            f"{text}: URLs of this kind are not read; give a local path or s3://bucket/prefix "
            "(AWS_ENDPOINT_URL names another store that speaks S3)"
        )
    return Path(text)
