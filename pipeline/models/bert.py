"""A post-norm decoder in BERT's manner with cross-attention: the text half of BLIP.

Li et al. 2022, 'BLIP: Bootstrapping Language-Image Pre-training', section 3.1 (the image-grounded
text decoder); layers as in Devlin et al. 2019: attention, cross-attention and feed-forward, a
LayerNorm after each sum; a transform before the tied output. Letters as in `captioner.py`; h is
heads, d a head's width, N any leading dimensions.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from pipeline.models.attending import AttendingDecoder, AttendingState
from pipeline.models.attention import attend
from pipeline.models.captioner import Layout, Memory, State, Teaching
from pipeline.models.dropout import Dropout
from pipeline.models.linear import Linear, linear


class Attention(nn.Module):
    """The projections of an attention, and the sum and LayerNorm that follow it."""

    def __init__(self, width: int, memory: int, heads: int, eps: float, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(width, width)
        self.key = Linear(memory, width)
        self.value = Linear(memory, width)
        self.out = Linear(width, width)
        self.norm = nn.LayerNorm(width, eps)
        self.drop = Dropout(dropout)

    def queries(self, x_BQD: Tensor) -> Tensor:
        """[B, h, Q, d]."""
        split: Tensor = self.query(x_BQD).unflatten(-1, (self.heads, -1))
        return split.transpose(1, 2)

    def keys_values(self, x_BKD: Tensor) -> tuple[Tensor, Tensor]:
        """[B, h, K, d] each."""
        keys, values = (
            part(x_BKD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.key, self.value)
        )
        return keys.contiguous(), values.contiguous()

    def add(self, x_BQD: Tensor, found_BhQd: Tensor) -> Tensor:
        """What the attention found, added to x and normalised."""
        out: Tensor = self.norm(x_BQD + self.drop(self.out(found_BhQd.transpose(1, 2).flatten(2))))
        return out


class Layer(nn.Module):
    """Attention to the caption so far, attention to the memory, feed-forward."""

    def __init__(
        self, width: int, channels: int, heads: int, mlp: int, eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.own = Attention(width, width, heads, eps, dropout)
        self.cross = Attention(width, channels, heads, eps, dropout)
        self.mlp_up = Linear(width, mlp)
        self.mlp_down = Linear(mlp, width)
        self.norm = nn.LayerNorm(width, eps)
        self.drop = Dropout(dropout)

    def mlp(self, x: Tensor) -> Tensor:
        """The feed-forward part, added to x and normalised."""
        up = linear(x, self.mlp_up.weight, self.mlp_up.bias, "gelu")
        out: Tensor = self.norm(x + self.drop(self.mlp_down(up)))
        return out


class BertDecoder(AttendingDecoder):
    """Memory to captions, a token at a time."""

    def __init__(
        self,
        channels: int,
        layout: Layout,
        vocabulary: int,
        *,
        width: int = 768,
        layers: int = 12,
        heads: int = 12,
        mlp: int | None = None,
        positions: int = 512,
        eps: float = 1e-12,
        dropout: float = 0.0,
        pad: int = 0,
    ) -> None:
        """A decoder for tokens of `channels`, random weights.

        Args:
            channels: the encoder's width.
            layout: the encoder's tokens.
            vocabulary: V.
            width: D of the decoder.
            layers: attention, cross-attention and feed-forward each.
            heads: of each attention; divide `width`.
            mlp: width inside the feed-forward part; 4 * width by default.
            positions: most tokens a caption.
            eps: of the layer normalisations.
            dropout: of embeddings and of what each part adds.
            pad: the padding token.

        Raises:
            ConfigError: heads that do not divide the width.
        """
        super().__init__(width, heads, positions)
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(positions, width)
        self.norm = nn.LayerNorm(width, eps)
        self.layers = nn.ModuleList(
            Layer(width, channels, heads, mlp or 4 * width, eps, dropout) for _ in range(layers)
        )
        self.transform = Linear(width, width)
        self.transform_norm = nn.LayerNorm(width, eps)
        self.out_bias = nn.Parameter(torch.zeros(vocabulary))
        self.drop = Dropout(dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    def _layers(self) -> list[Layer]:
        return list(self.layers)  # type: ignore[arg-type]

    def remember(self, tokens_BSC: Tensor) -> Memory:
        """The encoder's tokens as they are."""
        return Memory(tokens_BSC)

    def _logits(self, x: Tensor) -> Tensor:
        up = linear(x, self.transform.weight, self.transform.bias, "gelu")
        return linear(self.transform_norm(up), self.embed.weight, self.out_bias)

    def teach(
        self, memory: Memory, captions_BCT: Tensor, at_BCT: Tensor, attention: bool = False
    ) -> Teaching:
        """Logits after each prefix that is asked for; attention is the mean of heads and layers.

        Raises:
            ConfigError: captions longer than the decoder's positions.
        """
        pictures, captions, steps = captions_BCT.shape
        self.check_length(steps)
        words = self.embed(captions_BCT.flatten(0, 1)) + self.position.weight[:steps]
        x, looks = self.drop(self.norm(words)), []
        for layer in self._layers():
            found, _ = attend(layer.own.queries(x), *layer.own.keys_values(x), causal=True)
            # A picture's captions are one run of queries, so that its memory is not copied.
            x = layer.own.add(x, found).view(pictures, captions * steps, -1)
            keys, values = layer.cross.keys_values(memory.tokens_BSD)
            found, look = attend(layer.cross.queries(x), keys, values, weights=attention)
            x = layer.mlp(layer.cross.add(x, found)).view(pictures * captions, steps, -1)
            if look is not None:
                looks.append(look.view(*captions_BCT.shape, -1)[at_BCT])
        logits = self._logits(x.view(*captions_BCT.shape, -1)[at_BCT])
        return Teaching(logits, torch.stack(looks).mean(0) if attention else None)

    def memory_keys_values(self, memory: Memory) -> list[tuple[Tensor, Tensor]]:
        """Of each layer; see `AttendingDecoder`."""
        return [layer.cross.keys_values(memory.tokens_BSD) for layer in self._layers()]

    def step(self, tokens: Tensor, state: State, attention: bool) -> tuple[Tensor, AttendingState]:
        """One token [B * W] further; uses up the state given (its caches are written on).

        `state.attention` is the mean over heads and layers.
        """
        assert isinstance(state, AttendingState)
        past, looks = state.past.with_room(), []
        words = self.norm(self.embed(tokens) + self.position.weight[past.length])
        x = words.unflatten(0, (-1, past.width))  # [B, W, D]: a picture's beams are its queries
        for number, layer in enumerate(self._layers()):
            new = torch.stack([layer.own.key(x), layer.own.value(x)], 2).flatten(0, 1)
            keys, values, mask = past.write(number, new.unflatten(-1, (self.heads, -1)))
            found, _ = attend(layer.own.queries(x), keys, values, mask)
            x = layer.own.add(x, found)
            query = layer.cross.queries(x)
            found, look = attend(query, state.keys[number], state.values[number], weights=attention)
            x = layer.mlp(layer.cross.add(x, found))
            if look is not None:
                looks.append(look.flatten(0, 1))
        seen = torch.stack(looks).mean(0) if attention else None
        return self._logits(x.flatten(0, 1)), replace(state, past=past.advance(), attention=seen)
