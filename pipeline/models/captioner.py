"""The interface between models and everything that uses them: search, scoring, training, bulk work.

Letters in names and shapes: B pictures, C captions a picture, W beams a picture, T tokens,
S memory positions, D memory width, M positions asked for, V vocabulary.

    features      = model.features(images)          # [B, 3, H, W] -> what the frozen stages give
    memory        = model.memory(features)          # tokens [B, S, D]
    teaching      = model.teach(memory, captions, at)   # captions, mask [B, C, T] -> logits [M, V]
    state         = model.init_state(memory, width, max_len)
    logits, state = model.step(tokens, state)       # [B * W] -> [B * W, V]
    state         = state.select(rows)              # beams move; finished pictures leave

Stepping through a caption gives the logits that teaching gives, to float precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn


class Layout(NamedTuple):
    """Where an encoder's tokens stand in the picture: S = prefix + rows * columns of them."""

    prefix: int
    """Leading tokens that belong to no place (class and distillation tokens)."""
    rows: int
    columns: int
    """The rest is a grid, row by row."""

    @property
    def tokens(self) -> int:
        """S."""
        return self.prefix + self.rows * self.columns


class Memory(NamedTuple):
    """What the decoder attends to, once a picture however many captions share it."""

    tokens_BSD: Tensor
    mean_BC: Tensor | None = None
    """The encoder's tokens in the mean, as no decoder has seen them: what the pictures look like."""

    def select(self, pictures: Tensor) -> Memory:
        """The memory of some of the pictures, [K] of indices."""
        mean = self.mean_BC
        return Memory(
            self.tokens_BSD.index_select(0, pictures),
            mean.index_select(0, pictures) if mean is not None else None,
        )


class Teaching(NamedTuple):
    """Teacher forcing's outcome."""

    logits_MV: Tensor
    """Of the M positions asked for, in the order of a [B, C, T] mask's true places."""
    attention_MS: Tensor | None
    """Where each of them looked, if asked for; sums to 1 over S."""


class State(Protocol):
    """A search's position: the memory shared by a picture's beams, and what each beam carries."""

    @property
    def attention(self) -> Tensor | None:
        """[B * W, S] of the last step, where it was asked for."""
        ...

    def select(self, rows: Tensor) -> Self:
        """Keep `rows` of the B * W rows, in this order.

        A picture's rows stay together and keep their number, and pictures keep their order:
        rows are [K * W], where each run of W comes from one picture.
        """
        ...


class Encoder(nn.Module, ABC):
    """Pictures to tokens, in a frozen part and a trained part."""

    width: int
    """Channels of a token."""
    layout: Layout
    """The tokens' places, for the input size that the encoder was built for."""

    @abstractmethod
    def features(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] normalised pictures through the frozen stages: [B, ...]."""

    @abstractmethod
    def memory(self, features: Tensor) -> Tensor:
        """Features through the trained stages: tokens [B, S, width]."""


class Decoder(nn.Module, ABC):
    """Tokens to captions; the methods are those of `Captioner`.

    A decoder is made from (channels, layout, vocabulary, *, its settings, pad): the encoder's
    width and layout, and V.
    """

    @abstractmethod
    def remember(self, tokens_BSC: Tensor) -> Memory:
        """An encoder's tokens as what the decoder attends to."""

    @abstractmethod
    def teach(
        self, memory: Memory, captions_BCT: Tensor, at_BCT: Tensor, attention: bool
    ) -> Teaching:
        """Logits after each prefix that is asked for."""

    @abstractmethod
    def init_state(self, memory: Memory, width: int, max_len: int) -> State:
        """The state before the first token."""

    @abstractmethod
    def step(self, tokens: Tensor, state: State, attention: bool) -> tuple[Tensor, State]:
        """One more token a row."""


class Captioner(nn.Module):
    """An encoder and a decoder behind the interface above."""

    def __init__(self, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """What the frozen stages give for normalised pictures [B, 3, H, W]; cacheable."""
        return self.encoder.features(images)

    def memory(self, features: Tensor) -> Memory:
        """Features as what the decoder attends to."""
        tokens = self.encoder.memory(features)
        return self.decoder.remember(tokens)._replace(
            mean_BC=tokens.detach().mean(1, dtype=torch.float32)
        )

    def teach(
        self, memory: Memory, captions_BCT: Tensor, at_BCT: Tensor, attention: bool = False
    ) -> Teaching:
        """Logits of the token after the prefixes of `captions` that the mask `at` asks for.

        What a position gives depends on its caption's tokens up to it alone.
        """
        return self.decoder.teach(memory, captions_BCT, at_BCT, attention)

    def init_state(self, memory: Memory, width: int, max_len: int) -> State:
        """The state before the first token: `width` rows a picture, room for `max_len` tokens.

        Raises:
            ConfigError: more tokens than the decoder has positions.
        """
        return self.decoder.init_state(memory, width, max_len)

    def step(self, tokens: Tensor, state: State, attention: bool = False) -> tuple[Tensor, State]:
        """Logits [B * W, V] after one more token [B * W] a row."""
        return self.decoder.step(tokens, state, attention)
