"""A decoder trained for a reward, beside the one that it was trained from: its reference.

Self-critical training makes likely what scores well, and captions drawn at random then say that
instead of what people would say. The reference, the decoder as it was before, still says the
latter: it is what `predict.consensus` draws from, and searches as well. Letters as in `captioner.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.models.captioner import Captioner, Decoder, Memory, State, Teaching


class WithReference(Decoder):
    """Captions by `decoder`; its memory [B, S, 2 D] serves the reference as well."""

    def __init__(self, decoder: Decoder, reference: Decoder) -> None:
        """A decoder beside one of the same architecture."""
        super().__init__()
        self.decoder, self.reference = decoder, reference

    def remember(self, tokens_BSC: Tensor) -> Memory:
        """An encoder's tokens as both see them: the decoder's channels, then the reference's."""
        both = [part.remember(tokens_BSC).tokens_BSD for part in (self.decoder, self.reference)]
        return Memory(torch.cat(both, -1))

    def teach(
        self, memory: Memory, captions_BCT: Tensor, at_BCT: Tensor, attention: bool
    ) -> Teaching:
        """The decoder's."""
        return self.decoder.teach(_half(memory, 0), captions_BCT, at_BCT, attention)

    def init_state(self, memory: Memory, width: int, max_len: int) -> State:
        """The decoder's."""
        return self.decoder.init_state(_half(memory, 0), width, max_len)

    def step(self, tokens: Tensor, state: State, attention: bool) -> tuple[Tensor, State]:
        """The decoder's."""
        return self.decoder.step(tokens, state, attention)


def reference_of(model: Captioner) -> Captioner | None:
    """The captioner that a model's reference makes with its encoder; None where it has none."""
    decoder = model.decoder
    return (
        Captioner(model.encoder, decoder.reference) if isinstance(decoder, WithReference) else None
    )


def reference_memory(memory: Memory) -> Memory:
    """What the reference attends to, of what `WithReference` remembers."""
    return _half(memory, 1)


def _half(memory: Memory, number: int) -> Memory:
    return Memory(memory.tokens_BSD.chunk(2, -1)[number].contiguous())
