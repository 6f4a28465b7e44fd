"""`python -m pipeline.mirror SOURCE TARGET`: a bucket into a directory, or a directory into a bucket.

For backups of object storage where no other tool is at hand. What is there with the same size, and
no older than its source, is left; nothing is deleted.
"""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from pipeline import storage
from pipeline.errors import CaptionmillError, ConfigError, DataError
from pipeline.masking import masked
from pipeline.remote import Location, RemotePath, location

PIECE = 8 << 20
"""Bytes in memory at once."""


class Copied(NamedTuple):
    """What a copy did."""

    files: int
    left: int
    size: int
    """Bytes of the files that were copied."""


def mirror(source: Location, target: Location) -> Copied:
    """Copy every file below `source` to the same name below `target`.

    Raises:
        ConfigError: not one of the two is object storage.
        DataError: `source` holds nothing, or an object whose key no file may have.
        StorageError: the store cannot be reached, or refuses.
    """
    if isinstance(source, RemotePath) and isinstance(target, Path):
        return _fetch(source, target)
    if isinstance(source, Path) and isinstance(target, RemotePath):
        return _send(source, target)
    raise ConfigError(
        f"{source} and {target}: one is to be a directory, the other s3://bucket/prefix"
    )


def _fetch(source: RemotePath, target: Path) -> Copied:
    files = left = size = 0
    start = len(source.key) + 1 if source.key else 0
    for path, stat in source.entries(below=True):
        name = path.key[start:]
        if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
            raise DataError(f"{path}: no file may be called so; copy this bucket by another tool")
        place = target / name
        known = place.stat() if place.is_file() else None
        if known and known.st_size == stat.st_size and known.st_mtime_ns >= stat.st_mtime_ns:
            left += 1
            continue
        with path.open() as file:
            storage.commit(place, functools.partial(shutil.copyfileobj, file, length=PIECE))
        files, size = files + 1, size + stat.st_size
    return _not_empty(source, Copied(files, left, size))


def _send(source: Path, target: RemotePath) -> Copied:
    there = {path.key: stat for path, stat in target.entries(below=True)}
    files = left = size = 0
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target
        for part in path.relative_to(source).parts:
            place = place / part
        stat, known = path.stat(), there.get(place.key)
        if known and known.st_size == stat.st_size and known.st_mtime_ns >= stat.st_mtime_ns:
            left += 1
            continue
        storage.commit_copy(path, place)
        files, size = files + 1, size + stat.st_size
    return _not_empty(source, Copied(files, left, size))


def _not_empty(source: Location, copied: Copied) -> Copied:
    if copied.files + copied.left == 0:
        raise DataError(f"{source} holds nothing; mend the path, or there is nothing to copy")
    return copied


def main(arguments: list[str]) -> int:
    """The command's exit code."""
    if len(arguments) != 2:
        print("usage: python -m pipeline.mirror SOURCE TARGET", file=sys.stderr)
        return 2
    try:
        done = mirror(*map(location, arguments))
    except CaptionmillError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(
        masked(
            f"{done.files:,} files ({done.size / 1e6:,.1f} MB) to {arguments[1]}; "
            f"{done.left:,} were there"
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
