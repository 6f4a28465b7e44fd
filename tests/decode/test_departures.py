"""Finished pictures leave in a few fixed batch sizes, and no unfinished one with them."""

from __future__ import annotations

import pytest
import torch

from pipeline.decode.departures import Departures, batch_sizes


def test_a_batch_shrinks_to_few_sizes():
    assert batch_sizes(16) == [16, 12, 8, 4, 2, 1]
    assert batch_sizes(1) == [1]
    for pictures in range(1, 300):
        sizes = batch_sizes(pictures)
        assert sizes[0] == pictures
        assert sizes[-1] == 1
        assert len(sizes) <= 12


@pytest.mark.parametrize("pictures", [1, 5, 16])
def test_the_unfinished_stay_in_order(pictures):
    generator = torch.Generator().manual_seed(pictures)
    departures = Departures(pictures)
    here = torch.arange(pictures)
    going = torch.ones(pictures, dtype=torch.bool)
    for _ in range(40):
        going = going & (torch.rand(pictures, generator=generator) > 0.1)
        kept = departures.staying(going[here])
        if kept is None:
            continue
        here = here[kept]
        assert set(going.nonzero().flatten().tolist()) <= set(here.tolist())
        assert here.tolist() == sorted(set(here.tolist()))
        assert len(here) in (*batch_sizes(pictures), 0)
    assert len(here) == int(going.sum()) == 0
