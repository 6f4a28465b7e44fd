"""The loader's guarantees, by enumeration over ranks, workers and places to resume at."""

from __future__ import annotations

import itertools
import os

import pytest
import torch
from coloured_squares import make_data, settings

from pipeline.errors import ConfigError, ShardError
from pipeline.images import Transform
from pipeline.shard import shard
from pipeline.shards import ShardReader
from pipeline.text import Tokenizer
from pipeline.train.captions import EncodedCaptions
from pipeline.train.loader import Loader

PICTURES = 45


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loader")
    make_data(folder, {"train": PICTURES, "val": 1})
    return shard(settings(folder, "shard.shard_size=10"), folder / "work")


@pytest.fixture(scope="module")
def loader(shards):
    reader = ShardReader(shards, "train")
    captions = reader.captions()
    encoded = EncodedCaptions(captions, Tokenizer.train([c for g in captions for c in g], 1), 12)

    def make(rank=0, world=1, *options):
        config = settings("", "train.batch_size=12", "train.order={streams: 6, run: 4}", *options)
        transform = Transform(size=32)
        return Loader(reader, encoded, transform, config.train, rank=rank, world=world)

    return make


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_sample_exactly_once_an_epoch(loader, world, workers):
    for epoch in (0, 1):
        parts = [
            list(loader(rank, world, f"train.workers={workers}").batches(epoch))
            for rank in range(world)
        ]
        assert {len(part) for part in parts} == {4}, "all ranks take the same number of steps"
        seen = [picture for part in parts for batch in part for picture in batch.pictures]
        assert sorted(seen) == list(range(PICTURES))
        for number, batches in enumerate(zip(*parts, strict=True)):
            assert {batch.number for batch in batches} == {number}
            together = set(itertools.chain.from_iterable(batch.pictures for batch in batches))
            assert together == set(loader().pictures(epoch, number)), "the global batches stay"
            # What sums are divided by is the same on all ranks: the whole batch's.
            assert {batch.global_pictures for batch in batches} == {len(together)}
            words = sum(int(batch.real_BCT[..., 1:].sum()) for batch in batches)
            assert {batch.words for batch in batches} == {words}
            captions = sum(int(batch.real_BCT.any(-1).sum()) for batch in batches)
            assert {batch.captions for batch in batches} == {captions}


def test_the_last_batch_may_leave_a_rank_empty(loader):
    sizes = [[len(batch.pictures) for batch in loader(rank, 12).batches(0)] for rank in (0, 11)]
    assert sizes == [[1, 1, 1, 1], [1, 1, 1, 0]]
    last = list(loader(11, 12).batches(0))[-1]
    assert last.images.shape == (0, 3, 32, 32)
    assert (last.captions_BCT.shape[0], last.words > 0) == (0, True)


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1), (2, 3), (12, 6)])
def test_another_number_of_ranks_goes_on_with_what_was_not_seen(loader, before, after):
    for position in range(5):
        first = [
            picture
            for rank in range(before)
            for batch in itertools.islice(loader(rank, before).batches(1), position)
            for picture in batch.pictures
        ]
        rest = [
            picture
            for rank in range(after)
            for batch in loader(rank, after).batches(1, position)
            for picture in batch.pictures
        ]
        assert sorted(first + rest) == list(range(PICTURES))


def test_a_sample_is_the_same_whoever_loads_it(loader):
    """Its pixels, its augmentation and its choice of captions depend on (seed, epoch, key)."""
    options = (
        "train.cache_features=false",
        "train.augment={crop: 0.3, colour: 0.3, flip: true}",
        "train.captions_per_image=1",
    )

    def epoch_of(world, epoch):
        found = {}
        for rank in range(world):
            for batch in loader(rank, world, *options).batches(epoch):
                for place, key in enumerate(batch.keys):
                    words = batch.captions_BCT[place][batch.real_BCT[place]]
                    found[key] = (batch.images[place], words)
        return found

    one, three, later = epoch_of(1, 0), epoch_of(3, 0), epoch_of(1, 1)
    assert len(one) == PICTURES
    for key, (pixels, words) in one.items():
        assert torch.equal(pixels, three[key][0])
        assert torch.equal(words, three[key][1])
    assert any(not torch.equal(one[key][0], later[key][0]) for key in one)
    assert any(one[key][1].tolist() != later[key][1].tolist() for key in one)


def test_ranks_that_do_not_divide_the_batch_are_refused(loader):
    with pytest.raises(ConfigError, match=r"batch_size = 12 is not divisible by 5 ranks; take 10"):
        loader(0, 5)


@pytest.mark.parametrize("damage", ["truncated", "corrupt", "a picture"])
@pytest.mark.parametrize("epoch", [0, 1], ids=["at once", "after an epoch"])
def test_a_damaged_shard_is_named(shards, loader, damage, epoch):
    options = ("train.cache_features=false",)
    reading = loader(0, 1, *options)
    for earlier in range(epoch):
        assert sum(len(batch.keys) for batch in reading.batches(earlier)) == PICTURES
    reader = ShardReader(shards, "train")
    tar, picture = reader.tars[1].path, reader.sample(reader.tars[0].count).image
    whole = tar.read_bytes()
    times = tar.stat()
    try:
        with tar.open("r+b") as file:
            if damage == "truncated":
                file.truncate(len(whole) // 2)
            elif damage == "a picture":
                file.seek(whole.index(picture) + len(picture) // 2)
                file.write(bytes([picture[len(picture) // 2] ^ 1]))
            else:
                # Some byte of every member.
                for place in range(600, len(whole), 64):
                    file.seek(place)
                    file.write(bytes([whole[place] ^ 0xFF]))
        with pytest.raises(ShardError, match=tar.name):
            list(reading.batches(epoch))
    finally:
        tar.write_bytes(whole)
        os.utime(tar, ns=(times.st_atime_ns, times.st_mtime_ns))
