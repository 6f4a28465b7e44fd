"""The order of samples in an epoch: a function of the tars, the settings, the seed and the epoch.

Knows no rank, no worker and no file. Runs of consecutive samples are shuffled and laid one after
the other; that row is cut into a fixed number of canonical streams of equal length (to one
sample); each stream is shuffled inside windows; and the streams are interleaved: place p of the
epoch is sample p // S of stream p % S. So whoever takes every R-th place, with R a divisor of S,
needs S / R of the streams, each front to back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.config_recipe import OrderConfig


class EpochOrder:
    """Orders of the samples 0 to N - 1, which lie in tars of `counts` samples each."""

    def __init__(self, counts: Sequence[int], settings: OrderConfig, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.samples = sum(counts)
        starts = np.cumsum([0, *counts])
        self._runs = [
            (first, min(first + settings.run, int(end)))
            for start, end in pairwise(starts)
            for first in range(int(start), int(end), settings.run)
        ]

    def streams(self, epoch: int) -> list[NDArray[np.int64]]:
        """The canonical streams of an epoch, longer ones first; every sample is in one, once."""
        # The legacy generator: numpy promises its numbers for all versions to come.
        numbers = np.random.RandomState([self.seed, epoch])
        order = numbers.permutation(len(self._runs))
        row = np.concatenate([np.arange(*self._runs[n], dtype=np.int64) for n in order])
        streams = np.array_split(row, min(self.settings.streams, self.samples))
        for stream in streams:
            for first in range(0, len(stream), self.settings.window):
                # A view: shuffles that part of the stream.
                numbers.shuffle(stream[first : first + self.settings.window])
        return streams

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        """The samples of an epoch in order: the streams' first ones, their second ones, ..."""
        streams = self.streams(epoch)
        out = np.empty(self.samples, dtype=np.int64)
        for number, stream in enumerate(streams):
            out[number :: len(streams)] = stream
        return out
