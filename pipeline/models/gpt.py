"""A GPT decoder with cross-attention: pre-norm blocks, learned positions, tied embeddings.

Radford et al. 2019 (GPT-2), with cross-attention between self-attention and the feed-forward part
as in Vaswani et al. 2017; structured so that a GPT-2 checkpoint with cross-attention fits exactly.
Letters as in `captioner.py`; h is heads, d a head's width, R rows (B * W), P packed positions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.models.attending import AttendingDecoder, AttendingState
from pipeline.models.attention import attend
from pipeline.models.captioner import Layout, Memory, State, Teaching
from pipeline.models.dropout import Dropout
from pipeline.models.linear import Activation, Linear, linear


class Block(nn.Module):
    """Self-attention, cross-attention and a feed-forward part, each normalised first and added."""

    def __init__(
        self, width: int, heads: int, mlp: int, activation: Activation, eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.activation = activation
        self.norm_self = nn.LayerNorm(width, eps)
        self.self_qkv = Linear(width, 3 * width)
        self.self_out = Linear(width, width)
        self.norm_cross = nn.LayerNorm(width, eps)
        self.cross_query = Linear(width, width)
        self.cross_keys_values = Linear(width, 2 * width)
        self.cross_out = Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width, eps)
        self.mlp_up = Linear(width, mlp)
        self.mlp_down = Linear(mlp, width)
        self.drop = Dropout(dropout)

    def split(self, x: Tensor, parts: int) -> Tensor:
        """[..., parts * D] as [..., parts, h, d]."""
        out: Tensor = x.unflatten(-1, (parts, self.heads, -1))
        return out

    def memory_keys_values(self, tokens_BSD: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-attention's keys and values [B, h, S, d], for every caption of a picture."""
        both = self.split(self.cross_keys_values(tokens_BSD), 2).permute(2, 0, 3, 1, 4)
        keys, values = both.contiguous()
        return keys, values

    def mlp(self, x: Tensor) -> Tensor:
        """The feed-forward part, added to x."""
        up = linear(self.norm_mlp(x), self.mlp_up.weight, self.mlp_up.bias, self.activation)
        out: Tensor = x + self.drop(self.mlp_down(up))
        return out


class _Packing:
    """The positions worth computing: each caption's, up to the last that is asked for."""

    def __init__(self, at_BCT: Tensor) -> None:
        self.shape = at_BCT.shape
        needed = at_BCT.flip(-1).cumsum(-1).flip(-1) > 0
        self.places = needed.flatten().nonzero().squeeze(1)
        self.all = len(self.places) == at_BCT.numel()
        self.asked = at_BCT.flatten()[self.places]

    def pack(self, x: Tensor) -> Tensor:
        """[B * C * T, ...] as [P, ...]."""
        return x if self.all else x.index_select(0, self.places)

    def unpack(self, x: Tensor) -> Tensor:
        """[P, ...] as [B * C * T, ...], zero where nothing is needed."""
        if self.all:
            return x
        whole = x.new_zeros(self.shape.numel(), *x.shape[1:])
        return whole.index_copy(0, self.places, x)


class GPTDecoder(AttendingDecoder):
    """Memory to captions, a token at a time."""

    def __init__(
        self,
        channels: int,
        layout: Layout,
        vocabulary: int,
        *,
        width: int = 512,
        layers: int = 6,
        heads: int = 8,
        mlp: int | None = None,
        positions: int = 128,
        activation: Literal["gelu", "gelu_tanh"] = "gelu_tanh",
        eps: float = 1e-5,
        dropout: float = 0.1,
        bridge: Literal["norm", "plain"] = "norm",
        pad: int = 0,
    ) -> None:
        """A decoder for tokens of `channels` that stand as `layout` says, random weights.

        Args:
            channels: the encoder's width.
            layout: the encoder's tokens.
            vocabulary: V.
            width: D of the decoder.
            layers: blocks.
            heads: of each attention; divide `width`.
            mlp: width inside the feed-forward part; 4 * width by default.
            positions: most tokens a caption.
            activation: exact GELU or its tanh approximation (GPT-2).
            eps: of the layer normalisations.
            dropout: of embeddings and of what each part adds.
            bridge: norm: a projection, a normalisation and learned places, for any encoder;
                plain: a projection where the widths differ and nothing else, as `transformers`.
            pad: the padding token; never looked at, so its embedding is like any other.

        Raises:
            ConfigError: heads that do not divide the width.
        """
        super().__init__(width, heads, positions)
        self.bridge: nn.Module
        self.place: nn.Parameter | None = None
        if bridge == "norm":
            self.bridge = nn.Sequential(Linear(channels, width), nn.LayerNorm(width, eps))
            self.place = nn.Parameter(torch.zeros(layout.tokens, width))
        else:
            self.bridge = Linear(channels, width) if channels != width else nn.Identity()
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(
            Block(width, heads, mlp or 4 * width, activation, eps, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, eps)
        self.drop = Dropout(dropout)
        self._initialise(width, layers)

    def _initialise(self, width: int, layers: int) -> None:
        """GPT-2's scheme, normal and less where residual branches end, at a scale for any width."""
        std = width**-0.5
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" not in name and not name.startswith("bridge.1"):
                ends = name.endswith(("self_out.weight", "cross_out.weight", "mlp_down.weight"))
                nn.init.normal_(parameter, std=std / (2 * layers) ** 0.5 if ends else std)

    def _blocks(self) -> list[Block]:
        return list(self.blocks)  # type: ignore[arg-type]

    def remember(self, tokens_BSC: Tensor) -> Memory:
        """An encoder's tokens as memory tokens [B, S, D]."""
        tokens: Tensor = self.bridge(tokens_BSC)
        if self.place is not None:
            tokens = self.drop(tokens + self.place)
        return Memory(tokens)

    def teach(
        self, memory: Memory, captions_BCT: Tensor, at_BCT: Tensor, attention: bool = False
    ) -> Teaching:
        """Logits after each prefix that is asked for.

        Only the positions up to each caption's last asked one are computed, packed one after the
        other; a picture's captions share its memory's keys and values. `attention` is the mean
        over heads and layers.

        Raises:
            ConfigError: captions longer than the decoder's positions.
        """
        pictures, captions, steps = captions_BCT.shape
        self.check_length(steps)
        plan = _Packing(at_BCT)
        x = self.embed(plan.pack(captions_BCT.flatten())) + self.position(plan.places % steps)
        x, looks = self.drop(x), []
        for block in self._blocks():
            qkv = plan.unpack(block.self_qkv(block.norm_self(x)))
            q, k, v = block.split(qkv, 3).unflatten(0, (-1, steps)).permute(2, 0, 3, 1, 4)
            mixed, _ = attend(q, k, v, causal=True)
            x = x + block.drop(
                block.self_out(plan.pack(mixed.transpose(1, 2).flatten(2).flatten(0, 1)))
            )
            # A picture's captions are one run of queries, so that its memory is not copied.
            query = plan.unpack(block.cross_query(block.norm_cross(x)))
            query = query.view(pictures, captions * steps, self.heads, -1).transpose(1, 2)
            mixed, look = attend(
                query, *block.memory_keys_values(memory.tokens_BSD), weights=attention
            )
            x = x + block.drop(
                block.cross_out(plan.pack(mixed.transpose(1, 2).flatten(2).flatten(0, 1)))
            )
            x = block.mlp(x)
            if look is not None:
                looks.append(plan.pack(look.flatten(0, 1))[plan.asked])
        logits = linear(self.norm(x[plan.asked]), self.embed.weight)
        return Teaching(logits, torch.stack(looks).mean(0) if attention else None)

    def memory_keys_values(self, memory: Memory) -> list[tuple[Tensor, Tensor]]:
        """Of each block; see `AttendingDecoder`."""
        return [block.memory_keys_values(memory.tokens_BSD) for block in self._blocks()]

    def step(self, tokens: Tensor, state: State, attention: bool) -> tuple[Tensor, AttendingState]:
        """One token [B * W] further; uses up the state given (its caches are written on).

        `state.attention` is the mean over heads and layers.
        """
        assert isinstance(state, AttendingState)
        past, looks = state.past.with_room(), []
        x = self.embed(tokens) + self.position.weight[past.length]
        for layer, block in enumerate(self._blocks()):
            qkv_RchD = block.split(block.self_qkv(block.norm_self(x)), 3)
            keys, values, mask = past.write(layer, qkv_RchD[:, 1:])
            mixed, _ = attend(self._queries(qkv_RchD[:, 0], past.width), keys, values, mask)
            x = x + block.self_out(mixed.transpose(1, 2).reshape(len(x), -1))
            query = block.cross_query(block.norm_cross(x)).unflatten(-1, (self.heads, -1))
            mixed, look = attend(
                self._queries(query, past.width),
                state.keys[layer],
                state.values[layer],
                weights=attention,
            )
            x = x + block.cross_out(mixed.transpose(1, 2).reshape(len(x), -1))
            x = block.mlp(x)
            if look is not None:
                looks.append(look.flatten(0, 1))
        seen = torch.stack(looks).mean(0) if attention else None
        logits = linear(self.norm(x), self.embed.weight)
        return logits, replace(state, past=past.advance(), attention=seen)

    @staticmethod
    def _queries(rows_Rhd: Tensor, width: int) -> Tensor:
        """[B * W, h, d] as [B, h, W, d]: a picture's beams are its queries."""
        queries: Tensor = rows_Rhd.unflatten(0, (-1, width)).transpose(1, 2)
        return queries
