"""Training captions as token ids; which of a picture's captions an epoch takes."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from pipeline.text import Tokenizer


class EncodedCaptions:
    """Every caption's ids in one flat tensor; [picture] -> the rows of its captions."""

    def __init__(self, captions: list[list[str]], tokenizer: Tokenizer, max_len: int) -> None:
        self.pad = tokenizer.pad
        rows = tokenizer.encode([text for group in captions for text in group], max_len)
        self.first = torch.tensor([0, *(len(group) for group in captions)]).cumsum(0).tolist()
        self.start = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0).tolist()
        self.ids = torch.tensor([token for row in rows for token in row], dtype=torch.int32)

    def length(self, row: int) -> int:
        """Tokens of a caption, begin and end among them."""
        return int(self.start[row + 1] - self.start[row])

    def choose(self, picture: int, most: int, chooser: random.Random) -> list[int]:
        """The rows of a picture's captions, longest first; `chooser` picks where there are more."""
        rows = list(range(self.first[picture], self.first[picture + 1]))
        if len(rows) > most:
            rows = sorted(chooser.sample(rows, most))
        # Longest first: what the decoder's packing wants.
        return sorted(rows, key=lambda row: -self.length(row))

    def padded(self, groups: list[list[int]]) -> tuple[Tensor, Tensor]:
        """[B, C, T] ids of groups of rows, and where they are not padding."""
        longest = max((self.length(row) for rows in groups for row in rows), default=2)
        widest = max((len(rows) for rows in groups), default=1)
        out = torch.full((len(groups), widest, longest), self.pad, dtype=torch.long)
        # Kept apart: the padding token may be the end token too (GPT-2).
        real = torch.zeros(out.shape, dtype=torch.bool)
        for place, rows in enumerate(groups):
            for column, row in enumerate(rows):
                out[place, column, : self.length(row)] = self.ids[
                    self.start[row] : self.start[row + 1]
                ]
                real[place, column, : self.length(row)] = True
        return out, real
