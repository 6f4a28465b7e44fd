"""Where each picture is, by stat alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import NamedTuple

from pipeline.shard.bad import Bad
from pipeline.shard.row import Stat
from pipeline.shard.sources import Picture


class Span(NamedTuple):
    """A part of a file."""

    offset: int
    size: int | None
    """None: there is no picture after all."""


class Located(NamedTuple):
    """A picture whose file exists and that has captions."""

    picture: Picture
    path: str
    stat: Stat
    """Of the picture's file, or of the Parquet file that it is in."""
    span: Span | None = None
    """Where in the file at `path` it is, if it is not the whole file."""

    def may_have(self, size: int) -> bool:
        """Whether the picture can be of so many bytes, as far as the stat tells."""
        return self.picture.embedded is not None or self.stat.size == size


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
    if (at := picture.embedded) is not None:
        return Located(picture, at.file, at.stat)
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
