"""Which finished parts are still what the sources say, so that only the rest is sharded."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ShardError
from pipeline.progress import say
from pipeline.shard.locate import Located
from pipeline.shard.part import WORKERS
from pipeline.shard.seen import Seen, hash_files
from pipeline.shard_tars import Member, Tar, read_index, read_part


@dataclass(frozen=True)
class Part:
    """A finished part."""

    name: str
    tars: list[Tar]
    members: list[Member]


def current_parts(
    directories: Iterable[Path], usable: dict[str, Located], taken: set[str], seen: Seen
) -> list[Part]:
    """Those parts that are whole and whose every sample is still what its source says.

    A file whose size or time has changed is hashed; `seen` learns of those that turn out the
    same. `taken` gets the keys of the samples of the parts returned.
    """
    candidates = [
        part
        for directory in directories
        if (part := _read(directory)) is not None
        and all(_plausible(member, usable) for member in part.members)
    ]
    touched = {
        member.key: usable[member.key]
        for part in candidates
        for member in part.members
        if not seen.unchanged(usable[member.key])
    }
    hashes = hash_files(touched.values(), WORKERS)
    current = []
    for part in candidates:
        keys = {member.key for member in part.members}
        same = all(
            hashes[member.key][0] == member.sha256
            for member in part.members
            if member.key in hashes
        )
        if same and not keys & taken:
            seen.stats |= {key: hashes[key][1] for key in keys if key in hashes}
            taken |= keys
            current.append(part)
    return current


def unlisted_parts(parts: Path, listed: list[str]) -> list[Path]:
    """Finished parts that no set has listed yet, or not any more."""
    return [
        manifest.parent
        for manifest in sorted(parts.glob("*/part.json"))
        if manifest.parent.name not in listed
    ]


def remove_unfinished(parts: Path, progress: Path, but: str) -> None:
    """Delete what killed runs left of parts that are no longer planned."""
    for directory in parts.glob("*"):
        if directory.name != but and not (directory / "part.json").exists():
            shutil.rmtree(directory)
    for directory in progress.glob("*"):
        if directory.name != but:
            shutil.rmtree(directory)


def _read(directory: Path) -> Part | None:
    try:
        tars = read_part(directory)
        return Part(directory.name, tars, [m for tar in tars for m in read_index(tar)])
    except ShardError as error:
        say("shard", f"left out and written anew: {error}")
        return None


def _plausible(member: Member, usable: dict[str, Located]) -> bool:
    located = usable.get(member.key)
    return (
        located is not None
        and located.picture.text == member.text
        and located.may_have(member.image_size)
    )
