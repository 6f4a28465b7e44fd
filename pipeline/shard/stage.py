"""The stage: sources in, a shard set out; only what is new or changed is read and written."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import DataError, ShardError
from pipeline.progress import say
from pipeline.records import ShardSet
from pipeline.remote import Location
from pipeline.shard.bad import Tally
from pipeline.shard.locate import Located, locate
from pipeline.shard.part import part_name, plan_part, write_part
from pipeline.shard.parts import Part, current_parts, remove_unfinished, unlisted_parts
from pipeline.shard.publish import find_record, publish
from pipeline.shard.seen import Seen
from pipeline.shard.sources import Picture, read_sources
from pipeline.shard.unpack import unpack
from pipeline.shard_tars import FORMAT, Tar, read_manifest, read_part, split_fingerprint

RECIPE = 1
"""Raise it with every change that makes other bytes of the same input."""


def shard(config: Config, work: Path) -> ShardSet:
    """Bring the shard set of these settings up to date with its sources.

    The set lies in `work/shard/<fingerprint of the settings>`. New pictures become a new
    part; a part stays as it is until one of its samples changes or vanishes, and is then
    left out of the set, its remaining samples going into the new part. Run again with
    nothing new, no picture is read. Killed, it goes on behind the last finished tar.
    With `shard.store` the finished set is copied there, and is the one that is returned.

    Raises:
        ConfigError, AnnotationError, DataError: see `read_sources`.
        BadImagesError: too many unusable pictures; only their report is written.
        BusyError: another run is writing this set.
        StorageError: `shard.store` cannot be reached.
    """
    pictures = read_sources(config)
    directory, store = shard_directory(config, work), _store(config)
    with storage.lock(directory):
        record = _update(config, directory, pictures)
        return record if store is None else publish(directory, record, store)


def find_shard_set(config: Config, work: Path) -> ShardSet:
    """The finished shard set of these settings.

    Raises:
        DataError: there is none, or files of it are gone.
    """
    directory = _store(config) or shard_directory(config, work)
    found = find_record(directory)
    if found is None:
        raise DataError(f"no shard set of these settings in {directory}; run `captionmill shard`")
    if isinstance(directory, Path):
        for part in read_manifest(Path(found.manifest)):
            for tar in read_part(part):
                if not tar.path.exists():
                    raise ShardError(f"shard {tar.path} is gone; run `captionmill shard` again")
    return found


def _store(config: Config) -> Location | None:
    """Where the sets of these settings are published, if they are."""
    if config.shard.store is None:
        return None
    return config.input_location(config.shard.store).absolute() / _settings(config)


def shard_directory(config: Config, work: Path) -> Path:
    """Where the sets of these settings lie; independent of `data_root` and the device."""
    return work.absolute() / "shard" / _settings(config)


def _settings(config: Config) -> str:
    settings = config.shard.model_dump(mode="json", exclude={"max_bad_fraction", "store"})
    return storage.fingerprint({"recipe": RECIPE, **settings})


def _update(config: Config, directory: Path, pictures: list[Picture]) -> ShardSet:
    located, bad = locate(pictures)
    seen = _load_seen(directory)
    known = [found for one in located.values() if (found := seen.known_bad(one)) is not None]
    tally = Tally(len(pictures), config.shard.max_bad_fraction, [*bad, *known])
    report = directory / "report.jsonl"
    if tally.too_many():
        tally.write(report, pictures)
        raise tally.error(config, report)
    for one in known:
        del located[one.key]

    previous = find_record(directory)
    kept, waiting = _keep(directory, previous, located, seen)
    parts = [(part.name, part.tars) for part in kept]
    if waiting:
        name, tars = _add(config, directory, waiting, seen, tally)
        if tally.too_many():
            tally.write(report, pictures)
            raise tally.error(config, report)
        if tars:
            parts.append((name, tars))
    if not parts:
        tally.write(report, pictures)
        raise DataError(f"none of the {len(pictures):,} pictures can be used; see {report}")
    tally.write(report, pictures)
    seen.forget_all_but({picture.key for picture in pictures})
    record = _commit(directory, parts, seen, tally)
    _say(record, previous, parts, directory)
    return record


def _keep(
    directory: Path, previous: ShardSet | None, located: dict[str, Located], seen: Seen
) -> tuple[list[Part], list[Located]]:
    """The parts that stay, and the pictures that are in none of them."""
    taken: set[str] = set()
    listed = read_manifest(Path(previous.manifest)) if previous is not None else []
    kept = current_parts(listed, located, taken, seen)
    if len(taken) < len(located):
        # A run killed between a part's end and the record leaves a part that is only to be
        # taken up; so does data that goes back to an earlier state.
        others = unlisted_parts(directory / "parts", [path.name for path in listed])
        kept += current_parts(others, located, taken, seen)
    return kept, [one for key, one in located.items() if key not in taken]


def _add(
    config: Config, directory: Path, waiting: list[Located], seen: Seen, tally: Tally
) -> tuple[str, list[Tar]]:
    plans = plan_part(config.shard, waiting)
    parts, progress = directory / "parts", directory / "progress"
    name = part_name(plans, parts)
    remove_unfinished(parts, progress, but=name)
    plans = unpack(progress / name / "pictures", plans)
    tars, learnt = write_part(parts / name, progress / name, plans, config.shard, tally)
    seen.update(learnt)
    return name, tars


def _commit(
    directory: Path, parts: list[tuple[str, list[Tar]]], seen: Seen, tally: Tally
) -> ShardSet:
    """Commit what speaks of the parts: seen files, the set's manifest, the record."""
    if seen != Seen.load(directory / "seen.json"):
        seen.save(directory / "seen.json")
    tars = [tar for _, some in parts for tar in some]
    splits = sorted({tar.split for tar in tars})
    fingerprint = split_fingerprint(tars)
    manifest = directory / "sets" / f"{fingerprint}.json"
    record = ShardSet(
        manifest=str(manifest),
        fingerprint=fingerprint,
        samples={name: sum(t.count for t in tars if t.split == name) for name in splits},
        captions={name: sum(t.captions for t in tars if t.split == name) for name in splits},
        bad=tally.kinds(),
        report=str(directory / "report.jsonl"),
    )
    names = [name for name, _ in parts]
    if not manifest.exists() or [path.name for path in read_manifest(manifest)] != names:
        storage.commit_json(manifest, {"format": FORMAT, "parts": names})
    if record != find_record(directory):
        record.save(directory / "record.json")
    shutil.rmtree(directory / "progress", ignore_errors=True)
    for place in (directory, directory / "sets"):
        storage.remove_temporaries(place)
    return record


def _load_seen(directory: Path) -> Seen:
    """What finished runs have learnt, and a killed one if it finished its part.

    What it learnt of an unfinished part stays apart: knowing its bad pictures would change
    the plan, and with it the bytes.
    """
    seen = Seen.load(directory / "seen.json")
    for path in sorted((directory / "progress").glob("*/*.json")):
        if (directory / "parts" / path.parent.name / "part.json").exists():
            seen.update(Seen.load(path))
    return seen


def _say(
    record: ShardSet,
    previous: ShardSet | None,
    parts: list[tuple[str, list[Tar]]],
    directory: Path,
) -> None:
    tars = sum(len(some) for _, some in parts)
    news = "nothing new: " if record == previous else ""
    splits = ", ".join(f"{name} {count:,}" for name, count in record.samples.items())
    text = (
        f"{news}{sum(record.samples.values()):,} samples in {tars:,} tar{'s' if tars > 1 else ''}"
    )
    if not news:
        text += f", {len(parts):,} part{'s' if len(parts) > 1 else ''}: {splits}"
    say("shard", f"{text} ({directory})")
