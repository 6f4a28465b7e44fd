"""Reading picture files: some ahead of the one that is worked on, so that a disk is never idle."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator

from pipeline.errors import ImageError
from pipeline.images import Limits
from pipeline.shard.locate import Located
from pipeline.shard.row import Stat

LIMITS = Limits()
AHEAD = 8
"""Files that are open and asked of the disk while one is worked on."""


def read_ahead(pictures: Iterable[Located]) -> Iterator[tuple[Located, bytes | ImageError, Stat]]:
    """Every file's bytes (at most one more than `LIMITS` allows), and its stat before reading.

    A file that cannot be read comes with an ImageError, `missing` or `unreadable_file`.
    """
    waiting: deque[tuple[Located, int | ImageError, Stat]] = deque()
    try:
        for located in pictures:
            waiting.append(_open(located))
            if len(waiting) > AHEAD:
                yield _read(*waiting.popleft())
        while waiting:
            yield _read(*waiting.popleft())
    finally:
        for _, opened, _ in waiting:
            if isinstance(opened, int):
                os.close(opened)


def _open(located: Located) -> tuple[Located, int | ImageError, Stat]:
    try:
        descriptor = os.open(located.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return located, _unreadable(error), located.stat
    if located.span is not None:
        (offset, size), stat = located.span, located.stat
    else:
        status = os.fstat(descriptor)
        stat = Stat(status.st_size, status.st_mtime_ns)
        offset, size = 0, stat.size
    if hasattr(os, "posix_fadvise") and size:
        os.posix_fadvise(descriptor, offset, size, os.POSIX_FADV_WILLNEED)
    return located, descriptor, stat


def _read(
    located: Located, opened: int | ImageError, stat: Stat
) -> tuple[Located, bytes | ImageError, Stat]:
    if isinstance(opened, ImageError):
        return located, opened, stat
    offset, size = located.span or (0, stat.size)
    if size is None:
        os.close(opened)
        return located, ImageError("missing", "the row holds no picture"), stat
    # Of a whole file one more than there is, in case it has grown.
    wanted = min(size + (located.span is None), LIMITS.max_bytes + 1)
    try:
        data = os.pread(opened, wanted, offset)
        # A network file system may return less than it has.
        while len(data) < min(size, LIMITS.max_bytes) and (
            more := os.pread(opened, wanted - len(data), offset + len(data))
        ):
            data += more
    except OSError as error:
        return located, _unreadable(error), stat
    finally:
        os.close(opened)
    return located, data, stat


def _unreadable(error: OSError) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError("missing", "the file vanished while the run was going on")
    return ImageError("unreadable_file", error.strerror or "cannot be read")
