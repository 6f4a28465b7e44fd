"""Housekeeping in a work directory that retrains every week."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from small_registry import candidate, decided, make_shards, write_pictures

from pipeline import storage
from pipeline.errors import BusyError, ConfigError, DataError, TableError
from pipeline.gc import collect
from pipeline.promote import judging, rollback
from pipeline.records import ShardSet
from pipeline.remote import RemotePath
from pipeline.shard_tars import read_manifest, read_part
from pipeline.shards import ShardReader
from pipeline.tracking import Tracker
from pipeline.tracking.wheel import wheel

DAY = 24 * 3600.0
WEIGHTS = 20_000


@pytest.fixture
def shard_set(work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShardSet:
    monkeypatch.setattr(judging, "measure", judging.measure)
    (tmp_path / "pictures").mkdir()
    write_pictures(tmp_path / "pictures", images=12)
    return make_shards(tmp_path / "pictures", work)


def age(work: Path, to: float) -> None:
    """Everything in the work directory but its database was written at `to`."""
    for path in work.rglob("*"):
        if "mlflow.db" not in path.name:
            os.utime(path, (to, to))


def files(work: Path) -> set[str]:
    return {str(path.relative_to(work)) for path in work.rglob("*") if path.is_file()}


def size(work: Path) -> int:
    return sum(
        path.stat().st_size
        for path in work.rglob("*")
        if path.is_file() and "mlflow.db" not in path.name
    )


def test_what_aliases_need_stays_and_the_rest_goes(work: Path, shard_set: ShardSet) -> None:
    for name, right in (("a", 0.2), ("b", 0.5), ("c", 0.9), ("d", 0.1), ("e", 0.05)):
        decided(work, shard_set, fingerprint(name), right)
    assert Tracker(work).aliases("captioner") == {"champion": 3, "previous": 2, "challenger": 5}
    age(work, 1000.0)
    before = files(work)
    listed = collect(work, keep_days=1)
    assert files(work) == before
    assert not any(item.removed for item in listed.items)
    done = collect(work, keep_days=1, delete=True)
    assert [item.path for item in done.items] == [item.path for item in listed.items]
    assert done.bytes == listed.bytes > 0
    kinds = {item.kind for item in done.items}
    assert {"train", "score", "promote", "files of captioner/1", "files of captioner/4"} == kinds
    left = {path.name for path in (work / "train").iterdir()}
    assert left == {fingerprint(name) for name in "bce"}
    tracker = Tracker(work)
    for number in (2, 3, 5):
        root = tracker.resolve("captioner", version=number).directory
        assert (root / "model.safetensors").exists()
    first = tracker.versions("captioner")[0]
    assert {path.name for path in first.root.iterdir()} == {"evidence"}
    assert (work / "promote" / "audit.jsonl").exists()
    assert collect(work, keep_days=1, delete=True).items == ()
    # All that is needed still works.
    assert decided(work, shard_set, fingerprint("c"), 0.9).version == 3
    assert rollback(work, "captioner", by="ann", reason="r").champion == 2
    assert decided(work, shard_set, fingerprint("f"), 1.0).promoted


def fingerprint(name: str) -> str:
    return storage.fingerprint(name)


def test_what_was_written_lately_stays(work: Path, shard_set: ShardSet) -> None:
    for name, right in (("a", 0.2), ("b", 0.5), ("c", 0.9), ("d", 0.1), ("e", 0.05)):
        decided(work, shard_set, fingerprint(name), right)
    assert collect(work, keep_days=1).items == ()


def test_models_that_made_a_table_stay(work: Path, shard_set: ShardSet, tmp_path: Path) -> None:
    for name, right in (("a", 0.2), ("b", 0.5), ("c", 0.9)):
        decided(work, shard_set, fingerprint(name), right)
    for folder, marker in (("one", "_table.json"), ("two", "_recipes/r.json")):
        model = {"model": {"name": "captioner", "version": "1"}}
        storage.commit_json(tmp_path / folder / "_table.json", {})
        storage.commit_json(tmp_path / folder / marker, model)
    age(work, 1000.0)
    assert "files of captioner/1" in {item.kind for item in collect(work).items}
    for folder in ("one", "two"):
        kinds = {item.kind for item in collect(work, tables=[tmp_path / folder]).items}
        assert "files of captioner/1" not in kinds
    with pytest.raises(TableError, match="is not a caption table"):
        collect(work, tables=[tmp_path])


def test_models_that_made_a_table_on_object_storage_stay(
    work: Path, shard_set: ShardSet, bucket: RemotePath
) -> None:
    for name, right in (("a", 0.2), ("b", 0.5), ("c", 0.9)):
        decided(work, shard_set, fingerprint(name), right)
    table = bucket / "captions"
    storage.commit_json(table / "_table.json", {})
    storage.commit_json(table / "_recipes/r.json", {"model": {"name": "captioner", "version": "1"}})
    age(work, 1000.0)
    assert "files of captioner/1" in {item.kind for item in collect(work).items}
    kinds = {item.kind for item in collect(work, tables=[table]).items}
    assert "files of captioner/1" not in kinds
    with pytest.raises(TableError, match=r"s3://.*/nowhere is not a caption table"):
        collect(work, tables=[bucket / "nowhere"])


def test_old_parts_of_a_refreshed_table_go_once_it_is_whole(work: Path) -> None:
    table = work / "captions" / "t"
    storage.commit_json(table / "_table.json", {})
    storage.commit(table / "_previous" / "part-1.parquet", b"old")
    for state, expected in (("running", []), ("whole", ["old parts"])):
        storage.commit_json(table / "_previous" / "_refresh.json", {"state": state})
        age(work, 1000.0)
        assert [item.kind for item in collect(work).items] == expected
    collect(work, delete=True)
    assert not (table / "_previous").exists() and (table / "_table.json").exists()


def old_training(work: Path, shard_set: ShardSet, name: str, place: str) -> Path:
    """A training that no version came of yet, its files in `place`."""
    directory = work / "train" / fingerprint(name)
    provenance = {"provenance": {"shard_set": shard_set.fingerprint}}
    storage.commit_json(directory / place / "captioner.json", provenance)
    return directory


@pytest.mark.parametrize("place", ["model", "checkpoints/000000012"])
def test_what_a_late_training_reads_stays_though_nothing_points_at_it(
    work: Path, tmp_path: Path, shard_set: ShardSet, place: str
) -> None:
    training = old_training(work, shard_set, "long", place)
    write_pictures(tmp_path / "pictures", images=1, first=100)
    make_shards(tmp_path / "pictures", work)  # the directory is at another set since
    age(work, 1000.0)
    now = 1000.0 + 40 * DAY
    os.utime(training / place / "captioner.json", (now, now))
    collect(work, delete=True, now=now + DAY)
    assert len(ShardReader(shard_set, "train")) == 12
    collect(work, delete=True, now=now + 20 * DAY)
    assert not Path(shard_set.manifest).exists()


def test_shards_that_a_run_held_lately_stay(
    work: Path, tmp_path: Path, shard_set: ShardSet
) -> None:
    age(work, 1000.0)
    make_shards(tmp_path / "pictures", work)  # nothing new, and so nothing written
    assert collect(work).items == ()
    assert len(ShardReader(shard_set, "train")) == 12


def test_another_registry_than_that_of_the_promotions_is_an_error(
    work: Path, shard_set: ShardSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where MLFLOW_TRACKING_URI is forgotten: everything would look as if nothing needed it."""
    decided(work, shard_set, fingerprint("a"), 0.5)
    age(work, 1000.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'other.db'}")
    with pytest.raises(ConfigError, match=r"'captioner', which the registry .* does not have"):
        collect(work, delete=True)
    assert (work / "train" / fingerprint("a")).is_dir()


def test_a_pinned_evaluation_set_that_cannot_be_read_is_an_error(
    work: Path, shard_set: ShardSet
) -> None:
    decided(work, shard_set, fingerprint("a"), 0.5)
    Tracker(work).tag_model("captioner", {"evaluation_set": "of another release"})
    with pytest.raises(DataError, match="pinned on captioner cannot be read"):
        collect(work, delete=True)


def test_a_directory_that_a_run_holds_is_left_alone(work: Path, shard_set: ShardSet) -> None:
    del shard_set
    held = work / "train" / fingerprint("running")
    storage.commit(held / "checkpoints" / "1", b"state")
    with storage.lock(held):
        age(work, 1000.0)
        report = collect(work, delete=True)
    assert report.busy == (str(held),)
    assert (held / "checkpoints" / "1").exists()


def test_a_year_of_weekly_retraining_stays_within_a_small_quota(
    work: Path, tmp_path: Path, shard_set: ShardSet
) -> None:
    """New pictures and new weights every week; what is needed at the end is all there."""
    tracker, start, grown = Tracker(work), 1_000_000.0, shard_set
    most = 0
    for week in range(52):
        now = start + 7 * DAY * week
        if week % 4 == 0:  # more often would only take longer
            write_pictures(tmp_path / "pictures", images=1, first=100 + 2 * week)
            grown = make_shards(tmp_path / "pictures", work)
        name = fingerprint(f"week {week}")
        made, card = candidate(work, grown, name, ["a dog"])
        weights = os.urandom(WEIGHTS)
        (Path(made.path) / "model.safetensors").write_bytes(weights)
        storage.commit(work / "train" / name / "checkpoints" / "1", weights)
        for tar in (tar for part in read_manifest(Path(grown.manifest)) for tar in read_part(part)):
            path = work / "features" / "f" / f"{tar.sha256[:32]}.npy"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, np.zeros(10))
        version = tracker.register("captioner", Path(made.path), None)
        grown.save(tmp_path / "shard_set.json")
        card.save(tmp_path / "score_card.json")
        made.save(tmp_path / "checkpoint.json")
        for record in ("shard_set", "score_card", "checkpoint"):
            tracker.attach(version, tmp_path / f"{record}.json", "evidence")
        aliases = tracker.aliases("captioner")
        if week % 3 == 0:
            if "champion" in aliases:
                tracker.set_alias("captioner", "previous", aliases["champion"])
            tracker.set_alias("captioner", "champion", version.version)
        else:
            tracker.set_alias("captioner", "challenger", version.version)
        for path in work.rglob("*"):
            if path.exists() and path.stat().st_mtime > start + 400 * DAY:
                os.utime(path, (now, now))
        collect(work, keep_days=14, delete=True, now=now)
        most = max(most, size(work))
    # Champion, previous, challenger and three recent weeks: weights twice, a checkpoint, the wheel.
    week = 3 * WEIGHTS + len(wheel()[1]) + 20_000
    assert most <= 7 * week, f"{most:,} bytes of 52 weeks' {52 * week:,}"
    champion = tracker.resolve("captioner", alias="champion")
    assert (champion.directory / "model.safetensors").stat().st_size == WEIGHTS
    kept = ShardSet.load(champion.root / "evidence" / "shard_set.json")
    assert len(ShardReader(kept, "train")) == kept.samples["train"]
    assert len(ShardReader(make_shards(tmp_path / "pictures", work), "train")) == 12 + 13


def test_two_collections_or_a_promotion_at_once(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, fingerprint("a"), 0.5)
    with storage.lock(work / "promote"), pytest.raises(BusyError):
        collect(work, delete=True)
