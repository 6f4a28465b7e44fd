"""A finished set copied to another directory or to object storage, for other machines to read.

What is there already is not copied again, and what speaks of a file comes after it: a part's
manifest after its tars, the set's after its parts, the record last.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

from pipeline import storage
from pipeline.errors import ShardError
from pipeline.progress import Progress, say
from pipeline.records import ShardSet
from pipeline.remote import Location
from pipeline.shard_bytes import infos_content
from pipeline.shard_tars import Tar, read_index, read_manifest, read_part

COPIES = 4
"""Tars that are copied at once."""


def find_record(directory: Location) -> ShardSet | None:
    """The record of the set in `directory`; None if no set was finished there."""
    try:
        saved = ShardSet.load(directory / "record.json")
        # Its paths are absolute, and the directory may have been moved or copied since.
        manifest = directory / "sets" / PurePosixPath(saved.manifest).name
        here = {"manifest": str(manifest), "report": str(directory / "report.jsonl")}
        record = saved.model_copy(update=here)
        read_manifest(manifest)
    except (OSError, ValueError, ShardError):
        return None
    return record


def publish(directory: Path, record: ShardSet, store: Location) -> ShardSet:
    """Copy the set of `record`, which lies in `directory`, to `store`; its record there.

    Killed, it goes on behind the last finished tar.

    Raises:
        ShardError: the set is damaged here.
    """
    manifest = Path(record.manifest)
    parts = [part for part in read_manifest(manifest) if not _same(part, store, "part.json")]
    tars = [tar for part in parts for tar in read_part(part)]
    progress = Progress("publish", len(tars), "tar")
    with ThreadPoolExecutor(COPIES) as pool:
        for _ in pool.map(lambda tar: _publish_tar(tar, store), tars):
            progress.add(1)
    if tars:
        progress.close()
    for part in parts:
        storage.commit_copy(part / "part.json", store / "parts" / part.name / "part.json")
    there = store / "sets" / manifest.name
    storage.commit_copy(manifest, there)
    storage.commit_copy(Path(record.report), store / "report.jsonl")
    published = record.model_copy(
        update={"manifest": str(there), "report": str(store / "report.jsonl")}
    )
    if published != find_record(store):
        published.save(store / "record.json")
    what = f"{len(tars):,} tar{'s' if len(tars) > 1 else ''} copied" if tars else "nothing new"
    say("publish", f"{what} ({store})")
    return published


def _publish_tar(tar: Tar, store: Location) -> None:
    assert isinstance(tar.path, Path)
    assert isinstance(tar.index, Path)
    part = tar.path.parent
    if _same(part, store, tar.index.name):
        return
    members = read_index(tar)
    target = store / "parts" / part.name
    storage.commit_copy(tar.path, target / tar.path.name)
    storage.commit(target / tar.infos.name, infos_content(tar, members))
    storage.commit_copy(
        tar.index, target / tar.index.name
    )  # last: what is there is not copied again


def _same(part: Path, store: Location, name: str) -> bool:
    try:
        return (store / "parts" / part.name / name).read_bytes() == (part / name).read_bytes()
    except FileNotFoundError:
        return False
