"""A new part: its pictures planned into tars, the tars written side by side, `part.json` last.

Killed and started again it keeps the finished tars whose pictures are still the same.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from pipeline import storage
from pipeline.config import ShardConfig
from pipeline.errors import ShardError
from pipeline.progress import Progress
from pipeline.shard.bad import Tally
from pipeline.shard.locate import Located
from pipeline.shard.seen import Seen
from pipeline.shard.tar import TarPlan, write_tar
from pipeline.shard_tars import FORMAT, Tar, read_index

WORKERS = max(2, min(8, os.cpu_count() or 2))
"""Tars written at once; reading, hashing and writing leave Python's lock."""


class _Cancelled(Exception):  # noqa: N818  (the first failure is what is raised)
    """Another tar has failed."""


def plan_part(settings: ShardConfig, pictures: Iterable[Located]) -> list[TarPlan]:
    """Tars of about `shard_size` pictures, split by split, shuffled by the seed.

    A picture's place depends on the seed and its key, not on the order of the sources.
    """
    splits: dict[str, list[Located]] = {}
    for located in pictures:
        splits.setdefault(located.picture.split, []).append(located)
    plans = []
    for split, members in sorted(splits.items()):
        members.sort(key=lambda one: _rank(settings.seed, one.picture.key))
        tars = -(-len(members) // settings.shard_size)
        for n in range(tars):
            some = members[n * len(members) // tars : (n + 1) * len(members) // tars]
            plans.append(TarPlan(f"{split}-{n:05d}", split, some))
    return plans


def part_name(plans: list[TarPlan], parts: Path) -> str:
    """The directory of the part that holds `plans`; the same for the same pictures and texts.

    A finished part of that name that is no longer what the pictures are keeps its name; the
    new one gets another.
    """
    rows = [[plan.name, [one.picture.text for one in plan.pictures]] for plan in plans]
    attempt = 0
    while (parts / (name := storage.fingerprint([rows, attempt])) / "part.json").exists():
        attempt += 1
    return name


def write_part(
    directory: Path, progress_dir: Path, plans: list[TarPlan], settings: ShardConfig, tally: Tally
) -> tuple[list[Tar], Seen]:
    """Write the tars of `plans` to `directory`, except those that a killed run has finished.

    Returns the tars in order and what was learnt of every picture. Nothing is left in
    `directory` if there are too many bad pictures, or none that is usable.
    """
    directory.mkdir(parents=True, exist_ok=True)
    storage.remove_temporaries(directory)
    finished: dict[str, tuple[Tar | None, Seen]] = {}
    for plan in plans:
        if (done := _finished(directory, progress_dir, plan)) is not None:
            finished[plan.name] = done
            for bad in done[1].bad.values():
                tally.add(bad)
    todo = [plan for plan in plans if plan.name not in finished]
    kept = sum(len(plan.pictures) for plan in plans if plan.name in finished)
    progress = Progress("shard", kept + sum(len(plan.pictures) for plan in todo), done=kept)
    finished |= _write_all(directory, progress_dir, todo, settings, tally, progress)
    progress.close(_note(tally))

    learnt = Seen()
    for _, seen in finished.values():
        learnt.update(seen)
    tars = [tar for plan in plans if (tar := finished[plan.name][0]) is not None]
    if tally.too_many() or not tars:
        shutil.rmtree(directory)
        shutil.rmtree(progress_dir, ignore_errors=True)
        return [], learnt
    rows = [tar.row() for tar in tars]
    storage.commit_json(directory / "part.json", {"format": FORMAT, "tars": rows})
    return tars, learnt


def _write_all(
    directory: Path,
    progress_dir: Path,
    plans: list[TarPlan],
    settings: ShardConfig,
    tally: Tally,
    progress: Progress,
) -> dict[str, tuple[Tar | None, Seen]]:
    lock, stop = threading.Lock(), threading.Event()

    def advance(count: int) -> None:
        if stop.is_set():
            raise _Cancelled
        with lock:
            progress.add(count, _note(tally))

    def work(plan: TarPlan) -> tuple[Tar | None, Seen]:
        done = write_tar(directory, plan, settings.check, tally, advance)
        if not tally.too_many():
            _remember(progress_dir, plan, done)
        return done

    results = {}
    # What is in memory by now stays: searching it for garbage again and again, while samples are
    # made by the thousand, would take a tenth of the time and hold up every thread.
    gc.freeze()
    with ThreadPoolExecutor(WORKERS) as pool:
        futures = {pool.submit(work, plan): plan.name for plan in plans}
        try:
            for future in as_completed(futures):
                results[futures[future]] = future.result()
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            gc.unfreeze()
    return results


def _note(tally: Tally) -> str:
    return f"{len(tally.bad):,} bad"


def _rank(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def _remember(progress_dir: Path, plan: TarPlan, done: tuple[Tar | None, Seen]) -> None:
    """Commit what a resumed run must know about a finished tar, after the tar and its index."""
    tar, seen = done
    value = {"tar": tar.row() if tar is not None else None, **seen.value()}
    storage.commit(progress_dir / f"{plan.name}.json", json.dumps(value))


def _finished(directory: Path, progress_dir: Path, plan: TarPlan) -> tuple[Tar | None, Seen] | None:
    """The finished tar of `plan` from a killed run, if its pictures are what they were."""
    try:
        value = storage.read_json(progress_dir / f"{plan.name}.json")
        seen = Seen.of(value)
        if seen.stats != {one.picture.key: one.stat for one in plan.pictures}:
            return None
        if value["tar"] is None:
            return None, seen
        tar = Tar.of(directory, value["tar"])
        read_index(tar)
    except (OSError, ValueError, KeyError, TypeError, ShardError):
        return None
    return tar, seen
