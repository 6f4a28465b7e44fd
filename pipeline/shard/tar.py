"""One tar of a part: pictures in, a tar and its index out; the same bytes for the same input."""

from __future__ import annotations

import hashlib
import json
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
from pipeline.shard.sample_tar import SampleTar
from pipeline.shard.seen import Seen
from pipeline.shard_tars import FORMAT, Member, Tar, table_digest

_REPORT = 16
"""Pictures between two calls of `advance`."""
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
    tar = SampleTar(file.fileno())
    for located, data, probe, sha256 in pictures:
        text = _sample_json(located, data, probe, sha256)
        offsets = tar.add(located.picture.key, {probe.extension: data, "json": text})
        yield Member(
            located.picture.key,
            probe.extension,
            offsets[probe.extension],
            len(data),
            sha256,
            offsets["json"],
            len(text),
            hashlib.sha256(text).hexdigest(),
            located.picture.text,
        )
    tar.close()


def _sample_json(located: Located, data: bytes, probe: images.Probe, sha256: str) -> bytes:
    about = located.picture
    info: dict[str, Any] = {
        "id": about.id,
        "captions": about.captions,
        "split": about.split,
        "source": about.source,
        "file_name": about.file_name,
        "width": probe.width,
        "height": probe.height,
        "bytes": len(data),
        "sha256": sha256,
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
