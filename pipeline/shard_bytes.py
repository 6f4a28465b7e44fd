"""Samples out of tars: from local files one by one, from object storage many at once.

Every byte is checked against the SHA-256 that was written. No bytes are kept, on disk or in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pipeline.errors import ShardError
from pipeline.remote import RemotePath
from pipeline.remote.spans import Range, fetch
from pipeline.shard_tars import Member, Tar

TOGETHER = 64
"""Samples that are fetched from object storage at once, at most."""
TOGETHER_BYTES = 32 << 20
"""Bytes that are fetched at once, at most; of one sample at least."""

Found = tuple[Tar, Member]
"""Where one sample lies."""


@dataclass(frozen=True)
class Sample:
    """One picture and its captions."""

    key: str
    image: bytes
    captions: list[str]
    info: dict[str, Any]
    """The sample's JSON: id, captions, split, source, file_name, width, height, bytes, sha256, meta."""


class _Bytes(Protocol):
    """A tar's bytes: of its file, or as far as they were fetched."""

    def read(self, size: int, offset: int) -> bytes: ...


Fetch = Callable[[Mapping[RemotePath, Iterable[Range]]], Mapping[RemotePath, _Bytes]]
"""Ranges of objects to their bytes: `pipeline.remote.spans.fetch`, or `HeldBlocks.fetch`."""


class _File(NamedTuple):
    """An open tar; reading moves no position."""

    descriptor: int

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self.descriptor, size, offset)


def read_samples(found: Sequence[Found], fetch: Fetch = fetch) -> Iterator[Sample]:
    """The samples that lie there, in that order; `fetch` brings what lies on object storage.

    Raises:
        ShardError: a tar is missing, truncated or corrupt; names it.
    """
    if found and isinstance(found[0][0].path, RemotePath):
        for group in _groups(found):
            spans = [(tar, span) for tar, member in group for span in _spans(member)]
            files = _fetched(spans, fetch)
            yield from (_sample(files[tar.path], tar, member) for tar, member in group)
        return
    for tar, member in found:
        with _open(tar) as file:
            yield _sample(file, tar, member)


class Checked:
    """Which pictures of local tars were found right, as long as the tar stays as it was then.

    A training reads the same pictures every epoch; hashing each of them each time would cost it a
    twentieth of all that decoding does. Any number of threads may use it.
    """

    def __init__(self) -> None:
        self._found: dict[Path, tuple[tuple[int, ...], set[int]]] = {}

    def of(self, path: Path, file: _File) -> set[int]:
        """Offsets in the open tar at `path` whose pictures are right; empty for one that changed."""
        status = os.fstat(file.descriptor)
        # What writes to a file cannot leave the last of these as it was.
        now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        known = self._found.get(path)
        if known is None or known[0] != now:
            known = self._found[path] = now, set()
        return known[1]


def read_pictures(
    found: Sequence[Found], checked: Checked, fetch: Fetch = fetch
) -> Iterator[bytes]:
    """The encoded pictures of the samples that lie there, in that order, without their JSON.

    Of local tars those in `checked` are not hashed again.

    Raises:
        ShardError: see `read_samples`.
    """
    if found and isinstance(found[0][0].path, RemotePath):
        yield from (sample.image for sample in read_samples(found, fetch))
        return
    for tar, member in found:
        assert isinstance(tar.path, Path)
        with _open(tar) as file:
            right = checked.of(tar.path, file)
            image = _read(file, tar, member, member.image_size, member.image_offset)
        if member.image_offset not in right:
            _check(image, member.sha256, f"shard {tar.path}", f"{member.key}.{member.extension}")
            right.add(member.image_offset)
        yield image


def read_infos(tar: Tar, members: Sequence[Member]) -> list[dict[str, Any]]:
    """The JSON of a tar's samples, or of some of them, without reading a picture.

    All of them come, on object storage, from the file beside the tar that `publish` makes;
    where there is none, and for some of them, sample by sample.

    Raises:
        ShardError: see `read_samples`.
    """
    if isinstance(tar.path, RemotePath):
        if len(members) == tar.count:
            with contextlib.suppress(FileNotFoundError):
                return _lines(tar, members)
        file = _fetched([(tar, _spans(member)[1]) for member in members])[tar.path]
        return [_info(file, tar, member) for member in members]
    with _open(tar) as opened:
        return [_info(opened, tar, member) for member in members]


def infos_content(tar: Tar, members: Sequence[Member]) -> bytes:
    """What the file of JSON beside a published tar holds: the samples' own bytes, a line each."""
    with _open(tar) as file:
        return b"".join(_json(file, tar, member) + b"\n" for member in members)


def _lines(tar: Tar, members: Sequence[Member]) -> list[dict[str, Any]]:
    lines = tar.infos.read_bytes().split(b"\n")[:-1]
    if len(lines) != len(members):
        raise ShardError(
            f"{tar.infos} is truncated: {len(lines):,} of {len(members):,} lines; delete it, then "
            "run `captionmill shard` again"
        )
    for line, member in zip(lines, members, strict=True):
        _check(line, member.json_sha256, str(tar.infos), f"{member.key}.json")
    return [json.loads(line) for line in lines]


def _groups(found: Sequence[Found]) -> Iterator[list[Found]]:
    group: list[Found] = []
    size = 0
    for one in found:
        own = one[1].image_size + one[1].json_size
        if group and (len(group) == TOGETHER or size + own > TOGETHER_BYTES):
            yield group
            group, size = [], 0
        group.append(one)
        size += own
    if group:
        yield group


def _spans(member: Member) -> tuple[Range, Range]:
    """Of the picture and of the JSON."""
    image, text = member.image_offset, member.json_offset
    return (image, image + member.image_size), (text, text + member.json_size)


def _fetched(wanted: Sequence[tuple[Tar, Range]], fetch: Fetch = fetch) -> Mapping[Any, _Bytes]:
    ranges: dict[RemotePath, list[Range]] = {}
    for tar, span in wanted:
        assert isinstance(tar.path, RemotePath)
        ranges.setdefault(tar.path, []).append(span)
    try:
        return fetch(ranges)
    except OSError as error:
        raise _gone(error) from None


@contextlib.contextmanager
def _open(tar: Tar) -> Iterator[_File]:
    assert isinstance(tar.path, Path)
    try:
        descriptor = os.open(tar.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _gone(error) from None
    try:
        yield _File(descriptor)
    finally:
        os.close(descriptor)


def _gone(error: OSError) -> ShardError:
    return ShardError(f"shard {error.filename}: {error.strerror}; run `captionmill shard` again")


def _sample(file: _Bytes, tar: Tar, member: Member) -> Sample:
    info = _info(file, tar, member)
    image = _read(file, tar, member, member.image_size, member.image_offset)
    _check(image, info["sha256"], f"shard {tar.path}", f"{member.key}.{member.extension}")
    return Sample(member.key, image, info["captions"], info)


def _info(file: _Bytes, tar: Tar, member: Member) -> dict[str, Any]:
    info: dict[str, Any] = json.loads(_json(file, tar, member))
    return info


def _json(file: _Bytes, tar: Tar, member: Member) -> bytes:
    data = _read(file, tar, member, member.json_size, member.json_offset)
    _check(data, member.json_sha256, f"shard {tar.path}", f"{member.key}.json")
    return data


def _read(file: _Bytes, tar: Tar, member: Member, size: int, offset: int) -> bytes:
    data = file.read(size, offset)
    if len(data) != size:
        raise ShardError(
            f"shard {tar.path} is truncated: sample {member.key} ends after {len(data):,} of "
            f"{size:,} bytes; run `captionmill shard` again"
        )
    return data


def _check(data: bytes, digest: str, file: str, name: str) -> None:
    if hashlib.sha256(data).hexdigest() != digest:
        raise ShardError(
            f"{file} is corrupt: {name} is not what was written (SHA-256 differs); "
            "delete its part's folder and run `captionmill shard` again"
        )
