"""Embedded pictures of a new part, copied front to back into one plain file a Parquet file.

A tar wants pictures from everywhere, and a Parquet file gives them in its own order alone; from
the copy they are read by position like any others. It takes the pictures' size on disk until
the part is written.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import IO

from pipeline import storage
from pipeline.progress import Progress
from pipeline.shard.embedded import by_file, read_embedded
from pipeline.shard.locate import Located, Span
from pipeline.shard.tar import TarPlan


def unpack(directory: Path, plans: list[TarPlan]) -> list[TarPlan]:
    """`plans`, with every embedded picture found in a file of `directory`.

    What a killed run has copied is used again.

    Raises:
        AnnotationError, DataError: see `read_embedded`.
    """
    files = by_file(one for plan in plans for one in plan.pictures)
    if not files:
        return plans
    storage.remove_temporaries(directory)
    progress = Progress("unpack", sum(len(pictures) for pictures in files))
    copied: dict[str, Located] = {}
    for pictures in files:
        # The keys hold the Parquet file's name, the stat its state.
        content = [pictures[0].stat, [one.picture.key for one in pictures]]
        path = directory / storage.fingerprint(content)
        sizes = _finished(path, len(pictures))
        if sizes is None:
            sizes = _copy(path, pictures, progress)
        else:
            progress.add(len(pictures))
        offset = 0
        for one, size in zip(pictures, sizes, strict=True):
            copied[one.picture.key] = one._replace(path=str(path), span=Span(offset, size))
            offset += size or 0
    progress.close()
    return [
        replace(plan, pictures=[copied.get(one.picture.key, one) for one in plan.pictures])
        for plan in plans
    ]


def _copy(path: Path, pictures: list[Located], progress: Progress) -> list[int | None]:
    """The size of every picture, None where the row has none."""
    sizes: list[int | None] = []

    def write(file: IO[bytes]) -> None:
        for _, data in read_embedded(pictures):
            file.write(data or b"")
            sizes.append(None if data is None else len(data))
            progress.add()

    storage.commit(path, write)
    storage.commit_json(_sizes(path), sizes)
    return sizes


def _finished(path: Path, count: int) -> list[int | None] | None:
    try:
        sizes: list[int | None] = storage.read_json(_sizes(path))
        whole = len(sizes) == count and path.stat().st_size == sum(size or 0 for size in sizes)
    except (OSError, ValueError, TypeError):
        return None
    return sizes if whole else None


def _sizes(path: Path) -> Path:
    return path.with_suffix(".sizes")
