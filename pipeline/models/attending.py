"""What decoders of attention layers share: their lengths, and a search's state.

Letters as in `captioner.py`; h is heads, d a head's width.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from pipeline.errors import ConfigError
from pipeline.models.attention import BeamCache
from pipeline.models.captioner import Decoder, Memory


@dataclass(frozen=True)
class AttendingState:
    """Cross-attention's keys and values once a picture, the past once a beam."""

    keys: tuple[Tensor, ...]
    """[B, h, S, d] of each layer."""
    values: tuple[Tensor, ...]
    past: BeamCache
    attention: Tensor | None = None

    def select(self, rows: Tensor) -> Self:
        """Keep rows [K * W]; keys and values are copied only when pictures leave."""
        keys, values, width = self.keys, self.values, self.past.width
        if len(rows) != len(keys[0]) * width:
            kept = rows[::width] // width
            keys = tuple(k.index_select(0, kept) for k in keys)
            values = tuple(v.index_select(0, kept) for v in values)
        return type(self)(keys, values, self.past.select(rows))


class AttendingDecoder(Decoder):
    """A decoder whose layers attend to the memory and to the caption so far."""

    def __init__(self, width: int, heads: int, positions: int) -> None:
        """Lengths and sizes of `heads` that divide `width`, for captions up to `positions`.

        Raises:
            ConfigError: heads that do not divide the width.
        """
        super().__init__()
        if width % heads:
            raise ConfigError(
                f"decoder heads = {heads} do not divide width = {width}; "
                f"such as heads = {max(1, width // 64)}"
            )
        self.width, self.heads, self.positions = width, heads, positions

    @abstractmethod
    def memory_keys_values(self, memory: Memory) -> list[tuple[Tensor, Tensor]]:
        """Cross-attention's keys and values [B, h, S, d] of each layer."""

    def check_length(self, tokens: int) -> None:
        """Refuse captions that are longer than the decoder's positions.

        Raises:
            ConfigError: they are.
        """
        if tokens > self.positions:
            raise ConfigError(
                f"captions of {tokens} tokens: the decoder has {self.positions} positions; "
                "lower max_len (max_caption_tokens in training), or train with more positions"
            )

    def init_state(self, memory: Memory, width: int, max_len: int) -> AttendingState:
        """`width` rows a picture, caches for `max_len` tokens.

        Raises:
            ConfigError: more tokens than the decoder has positions.
        """
        self.check_length(max_len)
        keys, values = zip(*self.memory_keys_values(memory), strict=True)
        tokens, size = memory.tokens_BSD, self.width // self.heads
        past = BeamCache.empty(tokens, len(keys), len(tokens), width, max_len, self.heads, size)
        return AttendingState(keys, values, past)
