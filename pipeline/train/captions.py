"""Training captions as token ids, and the batches' order: functions of (seed, epoch) alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.text import Tokenizer


class EncodedCaptions:
    """Every caption's ids in one flat tensor; [picture] -> its captions."""

    def __init__(self, captions: list[list[str]], tokenizer: Tokenizer, max_len: int) -> None:
        self.pad = tokenizer.pad
        rows = tokenizer.encode([text for group in captions for text in group], max_len)
        self.first = torch.tensor([0, *(len(group) for group in captions)]).cumsum(0).tolist()
        self.start = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0).tolist()
        self.ids = torch.tensor([token for row in rows for token in row], dtype=torch.int32)

    def batch(
        self, pictures: list[int], per_picture: int, chooser: random.Random
    ) -> tuple[Tensor, Tensor]:
        """[B, C, T] padded ids, and where they are not padding.

        `chooser` picks where a picture has more captions than `per_picture`.
        """
        chosen = []
        for picture in pictures:
            rows = list(range(self.first[picture], self.first[picture + 1]))
            if len(rows) > per_picture:
                rows = sorted(chooser.sample(rows, per_picture))
            # Longest first: what the decoder's packing wants.
            rows.sort(key=lambda row: self.start[row] - self.start[row + 1])
            chosen.append([self.ids[self.start[row] : self.start[row + 1]] for row in rows])
        longest = max(len(row) for rows in chosen for row in rows)
        widest = max(len(rows) for rows in chosen)
        out = torch.full((len(pictures), widest, longest), self.pad, dtype=torch.long)
        # Kept apart: the padding token may be the end token too (GPT-2).
        real = torch.zeros(out.shape, dtype=torch.bool)
        for place, group in enumerate(chosen):
            for column, ids in enumerate(group):
                out[place, column, : len(ids)] = ids
                real[place, column, : len(ids)] = True
        return out, real


@dataclass(frozen=True)
class Batch:
    """One step's pictures (positions in the reader) and their captions."""

    pictures: list[int]
    captions_BCT: Tensor
    real_BCT: Tensor
    """Where a caption has a token; the rest is padding."""


@dataclass(frozen=True)
class EpochPlan:
    """The steps of an epoch; the same for the same (seed, epoch), whatever ran before."""

    captions: EncodedCaptions
    pictures: int
    batch_size: int
    captions_per_image: int
    seed: int

    @property
    def steps(self) -> int:
        """Steps an epoch; the last may be smaller."""
        return -(-self.pictures // self.batch_size)

    def batches(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The epoch's batches from number `first` on; every picture once an epoch."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        order = torch.randperm(self.pictures, generator=generator).tolist()
        for step in range(first, self.steps):
            pictures = order[step * self.batch_size : (step + 1) * self.batch_size]
            chooser = random.Random(f"{self.seed}/{epoch}/{step}")  # noqa: S311
            captions, real = self.captions.batch(pictures, self.captions_per_image, chooser)
            yield Batch(pictures, captions, real)
