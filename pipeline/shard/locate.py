"""Where each picture's file is, by stat alone, and how a file is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import ImageError
from pipeline.images import Limits
from pipeline.shard.bad import Bad
from pipeline.shard.sources import Picture

LIMITS = Limits()


class Stat(NamedTuple):
    """What tells a changed file without reading it."""

    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Located:
    """A picture whose file exists and that has captions."""

    picture: Picture
    path: str
    stat: Stat


def locate(pictures: Iterable[Picture]) -> tuple[dict[str, Located], list[Bad]]:
    """Pictures with a file and captions, by key in the sources' order, and those without."""
    located: dict[str, Located] = {}
    bad: list[Bad] = []
    for picture in pictures:
        found = _find(picture)
        if isinstance(found, Bad):
            bad.append(found)
        elif not picture.captions:
            bad.append(Bad.of(picture, "no_captions", "no caption that is not empty"))
        else:
            located[picture.key] = found
    return located, bad


def _find(picture: Picture) -> Located | Bad:
    for folder in picture.folders:
        path = os.path.join(folder, picture.file_name)  # noqa: PTH118  (a million of them)
        try:
            status = os.stat(path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            # ValueError: a NUL or a lone surrogate, which no file name can hold.
            reason = error.strerror if isinstance(error, OSError) else "not a possible file name"
            return Bad.of(picture, "unreadable_file", str(reason))
        if not stat.S_ISREG(status.st_mode):
            return Bad.of(picture, "unreadable_file", "not a regular file")
        return Located(picture, path, Stat(status.st_size, status.st_mtime_ns))
    return Bad.of(picture, "missing", "no such file in the image folders")


def read_file(path: str) -> tuple[bytes, Stat]:
    """A file's bytes (at most one more than `LIMITS` allows) and its stat before reading.

    Raises:
        ImageError: `unreadable_file` or `missing`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            wanted = min(status.st_size, LIMITS.max_bytes) + 1
            data = os.read(descriptor, wanted)
            # A network file system may return less than it has.
            while len(data) < wanted - 1 and (more := os.read(descriptor, wanted - len(data))):
                data += more
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise ImageError("missing", "the file vanished while the run was going on") from None
    except OSError as error:
        raise ImageError("unreadable_file", error.strerror or "cannot be read") from None
    return data, Stat(status.st_size, status.st_mtime_ns)
