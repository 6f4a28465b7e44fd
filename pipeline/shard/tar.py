"""One tar of a part: pictures in, a tar and its index out; the same bytes for the same input."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

from pipeline import images, storage
from pipeline.errors import ImageError
from pipeline.shard.bad import Bad, Tally
from pipeline.shard.locate import Located
from pipeline.shard.read import LIMITS, read_ahead
from pipeline.shard.seen import Seen
from pipeline.shards import FORMAT, Member, Tar, table_digest

_FLUSH = 1 << 20
"""Bytes collected before they go to the kernel."""
_REPORT = 16
"""Pictures between two calls of `advance`."""
_BLOCK = tarfile.BLOCKSIZE
_PADDING = bytes(_BLOCK)
_ENCODER = json.JSONEncoder(sort_keys=True, allow_nan=False)


class Stopped(Exception):  # noqa: N818  (not an error of anyone's)
    """Another thread failed, or there are too many bad pictures to go on writing."""


@dataclass(frozen=True)
class TarPlan:
    """The pictures that go into one tar, in order."""

    name: str
    """Without suffix: <split>-<n>."""
    split: str
    pictures: list[Located]


class Usable(NamedTuple):
    """A picture that was read and checked."""

    located: Located
    data: bytes
    probe: images.Probe
    sha256: str


def write_tar(
    directory: Path,
    plan: TarPlan,
    check: str,
    tally: Tally,
    advance: Callable[[int], None],
) -> tuple[Tar | None, Seen]:
    """Commit the tar of `plan` in `directory`, then its index; none if no picture is usable.

    Bad pictures are left out and counted. Once there are too many of them, nothing more is
    written, and the rest is only checked, so that the report is complete.
    """
    seen = Seen()
    usable = _usable(plan, check, tally, seen, advance)
    first = next(usable, None)
    if first is None:
        return None, seen
    path = directory / f"{plan.name}.tar"
    members: list[Member] = []

    def write(file: IO[bytes]) -> None:
        for one in _written(file, chain([first], usable)):
            members.append(one)
            if tally.too_many():
                raise Stopped

    try:
        storage.commit(path, write)
    except Stopped:
        for _ in usable:
            pass
        return None, seen
    captions = {item.picture.key: len(item.picture.captions) for item in plan.pictures}
    tar = Tar(
        path,
        plan.split,
        len(members),
        sum(captions[member.key] for member in members),
        path.stat().st_size,
        table_digest(members),
    )
    storage.commit(tar.index, _index(tar, members))
    return tar, seen


def _usable(
    plan: TarPlan, check: str, tally: Tally, seen: Seen, advance: Callable[[int], None]
) -> Iterator[Usable]:
    for n, (located, data, stat) in enumerate(read_ahead(plan.pictures), 1):
        seen.stats[located.picture.key] = stat
        try:
            if isinstance(data, ImageError):
                raise data
            probe = images.probe(data, LIMITS)
            if check == "decode":
                images.decode(data, LIMITS)
        except ImageError as error:
            bad = Bad.of(located.picture, error.code, error.detail)
            seen.bad[bad.key] = bad
            tally.add(bad)
        else:
            yield Usable(located, data, probe, hashlib.sha256(data).hexdigest())
        if n % _REPORT == 0:
            advance(_REPORT)
    advance(len(plan.pictures) % _REPORT)


def _written(file: IO[bytes], pictures: Iterator[Usable]) -> Iterator[Member]:
    """Write each picture to `file` as a tar, saying where it lies."""
    from webdataset import TarWriter

    sink: Any = _Sink(file.fileno())
    writer = TarWriter(sink, encoder=False, mtime=0, user="captionmill", group="captionmill")
    writer.tarstream = _Stream(fileobj=sink, mode="w", format=tarfile.USTAR_FORMAT)
    for picture in pictures:
        located, text = picture.located.picture, _sample_json(picture)
        start = writer.tarstream.offset
        contents = {picture.probe.extension: picture.data, "json": text}
        writer.write({"__key__": located.key, **contents})
        # TarWriter orders the members of a sample by name, each behind one block of header.
        offsets = {}
        for extension in sorted(contents):
            offsets[extension] = start + _BLOCK
            start += _BLOCK + -(-len(contents[extension]) // _BLOCK) * _BLOCK
        yield Member(
            located.key,
            picture.probe.extension,
            offsets[picture.probe.extension],
            len(picture.data),
            picture.sha256,
            offsets["json"],
            len(text),
            hashlib.sha256(text).hexdigest(),
            located.text,
        )
    writer.close()
    sink.flush()


def _sample_json(picture: Usable) -> bytes:
    about = picture.located.picture
    info: dict[str, Any] = {
        "id": about.id,
        "captions": about.captions,
        "split": about.split,
        "source": about.source,
        "file_name": about.file_name,
        "width": picture.probe.width,
        "height": picture.probe.height,
        "bytes": len(picture.data),
        "sha256": picture.sha256,
        "meta": about.meta,
    }
    return _ENCODER.encode(info).encode()


def _index(tar: Tar, members: list[Member]) -> str:
    head = {
        "format": FORMAT,
        "tar": tar.path.name,
        "count": tar.count,
        "size": tar.size,
        "sha256": tar.sha256,
    }
    rows = ",\n".join(json.dumps(member._asdict()) for member in members)
    return f'{json.dumps(head)[:-1]}, "samples": [\n{rows}\n]}}\n'


class _Stream(tarfile.TarFile):
    """What TarWriter writes to, in place of a pipe that cuts what passes into 10 kB slices.

    Members differ in name and size alone, so a header is the first one's with those two
    put in: the same bytes as tarfile's, for much less work.
    """

    _header: bytearray | None = None
    _sum = 0

    def addfile(self, tarinfo: tarfile.TarInfo, fileobj: Any = None) -> None:
        """Write one regular file, read whole from `fileobj`."""
        if self._header is None:
            self._header = bytearray(tarinfo.tobuf(tarfile.USTAR_FORMAT))
            self._header[148:156] = b"        "  # the checksum counts its own field as spaces
            self._sum = sum(self._header[100:124]) + sum(self._header[136:])
        header = self._header
        header[0:100] = name = tarinfo.name.encode("ascii").ljust(100, b"\0")
        header[124:136] = size = b"%011o\0" % tarinfo.size
        header[148:156] = b"%06o\0 " % (self._sum + sum(name) + sum(size))
        assert len(header) == _BLOCK and tarinfo.isreg(), "a key of more than 100 characters?"
        padding = -tarinfo.size % _BLOCK
        self.fileobj.write(bytes(header))
        self.fileobj.write(fileobj.read())
        self.fileobj.write(_PADDING[:padding])
        self.offset += _BLOCK + tarinfo.size + padding


class _Sink:
    """Collects small writes and hands them to the kernel together, without copying them."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.parts: list[bytes] = []
        self.waiting = 0
        self.position = 0

    def write(self, data: Any) -> int:
        self.parts.append(data)
        self.waiting += len(data)
        self.position += len(data)
        if self.waiting >= _FLUSH or len(self.parts) >= 512:
            self.flush()
        return len(data)

    def tell(self) -> int:
        return self.position

    def flush(self) -> None:
        if not self.parts:
            return
        written = os.writev(self.descriptor, self.parts)
        if written < self.waiting:
            rest = memoryview(b"".join(self.parts))[written:]
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        self.parts, self.waiting = [], 0
