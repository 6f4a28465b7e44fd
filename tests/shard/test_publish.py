"""Sets that are published: read elsewhere as they are read here, copied once, whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import shard_bytes, storage
from pipeline.errors import ConfigError, DataError, ShardError, StorageError
from pipeline.remote import RemotePath, s3
from pipeline.shard import find_shard_set, shard
from pipeline.shards import ShardReader


@pytest.fixture
def published(sources, bucket):
    """A set of three tars of 23 pictures at s3://bucket/sets/<fingerprint>, and its settings."""
    sources.coco(sources.numbered(23))
    config = sources.config(store=str(bucket / "sets"))
    return config, shard(config, sources.work), sources


def objects(place: RemotePath) -> dict[str, str]:
    return {str(entry.path): entry.stat.etag for entry in place.entries(below=True)}


def read_alike(record, local) -> None:
    there, here = ShardReader(record, "train"), ShardReader(local, "train")
    assert list(there) == list(here)
    assert there.infos() == here.infos()
    assert there.fingerprint == here.fingerprint
    assert (there.keys(), there.digests()) == (here.keys(), here.digests())


def test_a_published_set_is_read_as_the_local_one(published, monkeypatch):
    config, record, sources = published
    assert record.manifest.startswith(str(config.shard.store) + "/")
    plain = config.model_copy(update={"shard": config.shard.model_copy(update={"store": None})})
    local = find_shard_set(plain, sources.work)
    assert local.model_dump(exclude={"manifest", "report"}) == record.model_dump(
        exclude={"manifest", "report"}
    )
    read_alike(record, local)
    monkeypatch.setattr(shard_bytes, "TOGETHER", 4)
    reader = pickle.loads(pickle.dumps(ShardReader(record, "train")))
    whole = list(ShardReader(local, "train"))
    rows = [7, 0, 22, 7, 8, 9, 10, 1, 15]
    assert list(reader.pictures(rows)) == [whole[row].image for row in rows]
    assert reader.sample(11) == whole[11]
    assert reader.info(3) == whole[3].info
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.sample, range(23))) == whole


def test_another_machine_finds_the_set_by_the_same_settings(published, tmp_path):
    config, record, _ = published
    elsewhere = config.model_copy(update={"data_root": str(tmp_path / "nothing here")})
    assert find_shard_set(elsewhere, tmp_path / "another work") == record
    other = config.model_copy(update={"shard": config.shard.model_copy(update={"seed": 9})})
    with pytest.raises(DataError, match=f"no shard set of these settings in {config.shard.store}/"):
        find_shard_set(other, tmp_path)


def test_nothing_new_is_not_copied_again(published, capsys):
    config, record, sources = published
    before = objects(RemotePath.parse(config.shard.store))
    assert len(before) == 3 * 3 + 4
    capsys.readouterr()
    assert shard(config, sources.work) == record
    assert "nothing new (s3://" in capsys.readouterr().err
    assert objects(RemotePath.parse(config.shard.store)) == before

    sources.coco(sources.numbered(30))
    grown = shard(config, sources.work)
    after = objects(RemotePath.parse(config.shard.store))
    new = {name for name in after if name not in before}
    assert len([name for name in new if name.endswith(".tar")]) == 1
    assert {name for name in before if after[name] != before[name]} == {
        name for name in before if name.endswith(("record.json", "report.jsonl"))
    } - {name for name in before if name.endswith("report.jsonl")}
    assert sum(grown.samples.values()) == 30
    assert len(ShardReader(grown, "train")) == 30
    assert len(ShardReader(record, "train")) == 23, "the older set is still there"


@pytest.mark.parametrize("after", [0, 1, 4, 8, 9, 10, 11, 12])
def test_a_publication_cut_short_is_finished_by_the_next(sources, bucket, monkeypatch, after):
    sources.coco(sources.numbered(23))
    store = str(bucket / "sets")
    config = sources.config(store=store)
    put, done = s3.put, []

    def failing(*what, **conditions):
        if len(done) == after:
            raise StorageError("the network is gone")
        done.append(what[1])
        return put(*what, **conditions)

    with monkeypatch.context() as patch:
        patch.setattr(s3, "put", failing)
        patch.setattr("pipeline.shard.publish.COPIES", 1)
        with pytest.raises(StorageError):
            shard(config, sources.work)
    with pytest.raises(DataError, match="run `captionmill shard`"):
        find_shard_set(config, sources.work)
    cut = objects(RemotePath.parse(store))
    assert len(cut) == after
    record = shard(config, sources.work)
    names = set(objects(RemotePath.parse(store)))
    assert set(cut) < names
    plain = config.model_copy(update={"shard": config.shard.model_copy(update={"store": None})})
    read_alike(record, find_shard_set(plain, sources.work))


def test_a_set_without_the_file_of_jsons_is_read_too(published):
    """Tars that were copied by another tool."""
    _, record, _ = published
    reader = ShardReader(record, "train")
    infos = reader.infos()
    for tar in reader.tars:
        tar.infos.unlink()
    assert reader.infos() == infos


def test_a_set_is_published_to_a_folder_as_well(sources, tmp_path):
    sources.coco(sources.numbered(23))
    config = sources.config(store=str(tmp_path / "shared"))
    record = shard(config, sources.work)
    assert Path(record.manifest).is_relative_to(tmp_path / "shared")
    plain = config.model_copy(update={"shard": config.shard.model_copy(update={"store": None})})
    read_alike(record, find_shard_set(plain, sources.work))
    assert find_shard_set(config, tmp_path / "other work") == record


def test_a_store_of_another_kind_is_refused_before_any_work(sources):
    sources.coco(sources.numbered(3))
    config = sources.config(store="gs://bucket/sets")
    with pytest.raises(ConfigError, match="gs://bucket/sets: URLs of this kind are not read"):
        shard(config, sources.work)
    assert not list(sources.work.glob("shard/*/parts"))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda tar: tar.path.unlink(), "no such object"),
        (lambda tar: tar.path.write_bytes(tar.path.read_bytes()[:-4000]), "truncated: .* of .* bytes"),
        (lambda tar: tar.index.unlink(), "cannot be read"),
        (lambda tar: tar.index.write_bytes(tar.index.read_bytes()[:99]), "cannot be read"),
        (
            lambda tar: tar.index.write_bytes(tar.index.read_bytes().replace(b'"sha256": "', b'"sha256": "0', 2)),
            "not the one that was written",
        ),
    ],
)  # fmt: skip
def test_a_damaged_set_is_not_opened(published, spoil, words):
    _, record, _ = published
    tar = ShardReader(record, "train").tars[1]
    spoil(tar)
    with pytest.raises(ShardError, match=f"{tar.path.stem}.*{words}"):
        ShardReader(record, "train")


def test_damage_after_opening_is_an_error_that_names_the_object(published):
    _, record, _ = published
    reader = ShardReader(record, "train")
    tar = reader.tars[1]
    whole = tar.path.read_bytes()
    row = json.loads(tar.index.read_bytes())["samples"][-1]

    flipped = bytearray(whole)
    flipped[row["image_offset"] + 5] ^= 1
    tar.path.write_bytes(bytes(flipped))
    with pytest.raises(ShardError, match=rf"{tar.path} is corrupt: {row['key']}"):
        list(reader)
    tar.path.write_bytes(whole[: row["image_offset"] + 10])
    with pytest.raises(ShardError, match=rf"{tar.path} is truncated: sample {row['key']} ends"):
        list(reader)
    tar.path.unlink()
    with pytest.raises(ShardError, match=rf"shard {tar.path}: no such object"):
        list(reader)

    lines = tar.infos.read_bytes()
    tar.infos.write_bytes(lines.replace(b"one ", b"two ", 1))
    with pytest.raises(ShardError, match=rf"{tar.infos} is corrupt"):
        reader.infos()
    tar.infos.write_bytes(lines[:-10])
    with pytest.raises(ShardError, match=rf"{tar.infos} is truncated"):
        reader.infos()


def test_a_part_whose_pictures_changed_replaces_the_published_one(published, make_sources):
    """The work directory was lost, and the same captions now have other pictures."""
    config, _, sources = published
    other = make_sources("other")
    for n in range(23):
        other.picture(f"{n}.jpg", seed=100 + n)
    (other.root / "captions.json").write_bytes((sources.root / "captions.json").read_bytes())
    changed = config.model_copy(update={"data_root": str(other.root)})
    record = shard(changed, other.work)
    images = {hashlib.sha256(sample.image).hexdigest() for sample in ShardReader(record, "train")}
    assert images == {storage.sha256_file(path) for path in (other.root / "images").iterdir()}


def test_few_requests_for_many_samples(published, monkeypatch):
    """Front to back, samples that lie side by side are one request."""
    _, record, _ = published
    reader = ShardReader(record, "train")
    asked = []
    get_all = s3.get_all
    monkeypatch.setattr(s3, "get_all", lambda asks: asked.extend(asks) or get_all(asks))
    assert len(list(reader)) == 23
    assert len(asked) == len(reader.tars)
    assert sum(ask.span[1] - ask.span[0] for ask in asked) <= sum(tar.size for tar in reader.tars)


def test_the_local_path_makes_no_request(sources, monkeypatch):
    sources.coco(sources.numbered(5))
    monkeypatch.setattr(s3, "_run", lambda _: os.abort())
    record = shard(sources.config(), sources.work)
    assert len(list(ShardReader(record, "train"))) == 5
