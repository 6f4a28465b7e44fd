"""The order of an epoch: every sample once, of (seed, epoch) alone, streams front to back."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config_recipe import OrderConfig
from pipeline.train.order import EpochOrder

COUNTS = [37, 100, 1, 64]
SETTINGS = OrderConfig(streams=8, run=10, window=12)


@pytest.mark.parametrize("streams", [1, 2, 7, 8, 64, 1000])
@pytest.mark.parametrize("run", [1, 10, 500])
def test_every_sample_is_there_once(streams, run):
    order = EpochOrder(COUNTS, OrderConfig(streams=streams, run=run, window=16), 3)
    for epoch in range(3):
        assert sorted(order.permutation(epoch).tolist()) == list(range(202))
        lengths = [len(stream) for stream in order.streams(epoch)]
        assert max(lengths) - min(lengths) <= 1
        assert lengths == sorted(lengths, reverse=True)


def test_it_is_a_function_of_seed_and_epoch():
    first = EpochOrder(COUNTS, SETTINGS, 3)
    first.permutation(5)  # what ran before does not matter
    again = EpochOrder(COUNTS, SETTINGS, 3)
    assert first.permutation(1).tolist() == again.permutation(1).tolist()
    others = [EpochOrder(COUNTS, SETTINGS, 4).permutation(1), first.permutation(2)]
    assert all(other.tolist() != first.permutation(1).tolist() for other in others)


def test_the_numbers_are_pinned():
    """A changed order would resume trainings of older versions at the wrong pictures."""
    found = EpochOrder([6, 4], OrderConfig(streams=2, run=3, window=2), 0).permutation(1)
    assert found.tolist() == [4, 8, 3, 0, 5, 1, 6, 2, 7, 9]


def test_a_place_belongs_to_a_stream_and_ranks_that_divide_them_read_their_own():
    order = EpochOrder(COUNTS, SETTINGS, 3)
    streams, places = order.streams(1), order.permutation(1)
    for place, sample in enumerate(places.tolist()):
        assert sample == streams[place % 8][place // 8]
    for rank in range(4):
        mine = set(places[rank::4].tolist())
        assert mine == {int(s) for n in (rank, rank + 4) for s in streams[n]}


def test_a_stream_reads_on_within_a_window():
    """Sorted by window, a stream is made of runs of consecutive samples."""
    order = EpochOrder([400], OrderConfig(streams=4, run=20, window=20), 0)
    for stream in order.streams(0):
        for first in range(0, len(stream), 20):
            window = np.sort(stream[first : first + 20])
            assert len(np.split(window, np.flatnonzero(np.diff(window) > 1) + 1)) <= 2
