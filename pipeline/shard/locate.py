"""Where each picture's file is, by stat alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.shard.bad import Bad
from pipeline.shard.sources import Picture


class Stat(NamedTuple):
    """What tells a changed file without reading it."""

    size: int
    mtime_ns: int


class Located(NamedTuple):
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
