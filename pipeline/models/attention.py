"""Attention of a few rows a picture over what they share: the memory, and the beams' own past.

Letters as in `captioner.py`; h is heads, d a head's width, Q queries, K keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

FEW = 16
"""Queries up to which plain products beat the fused kernel on a CPU (search_speed.py)."""


def attend(
    q_BhQd: Tensor,
    k_BhKd: Tensor,
    v_BhKd: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    weights: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1): values [B, h, Q, d].

    Args:
        q_BhQd: queries.
        k_BhKd: keys.
        v_BhKd: values.
        mask: added to the products; broadcasts to [B, h, Q, K].
        causal: query i sees keys up to i alone.
        weights: also give the mean over heads of where the queries looked [B, Q, K].
    """
    few = q_BhQd.device.type == "cpu" and q_BhQd.shape[2] <= FEW and not torch.is_grad_enabled()
    if causal or not (weights or few):
        assert not weights, "weights of causal attention are not needed"
        if torch.is_autocast_enabled("cpu") and q_BhQd.device.type == "cpu":
            # The kernel's derivative takes three times as long in bfloat16.
            with torch.autocast("cpu", enabled=False):
                whole = (q_BhQd.float(), k_BhKd.float(), v_BhKd.float())
                out = F.scaled_dot_product_attention(*whole, attn_mask=mask, is_causal=causal)
            return out, None
        out = F.scaled_dot_product_attention(
            q_BhQd, k_BhKd, v_BhKd, attn_mask=mask, is_causal=causal
        )
        return out, None
    scores = (q_BhQd * q_BhQd.shape[-1] ** -0.5) @ k_BhKd.transpose(2, 3)
    if mask is not None:
        scores += mask
    shares = scores.softmax(-1)
    return shares @ v_BhKd, shares.mean(1) if weights else None


@dataclass(frozen=True)
class BeamCache:
    """Keys and values of every token so far, written once and never moved when beams move.

    A picture's W beams keep their pasts side by side, token after token, and `mask` says which of
    them are a beam's own ancestors; so a moved beam costs a row of the mask instead of its keys
    and values in every layer. The buffers are shared by the states of a search: stepping from
    a state uses it up.
    """

    buffer_LcBhKd: Tensor
    """L layers, c keys and values, K = max_len * W."""
    mask_BWK: Tensor
    """0 for a beam's own ancestors and minus infinity for others; right for the tokens to come."""
    length: int = 0
    """Tokens so far."""

    @classmethod
    def empty(
        cls, like: Tensor, layers: int, pictures: int, width: int, max_len: int, heads: int, d: int
    ) -> Self:
        """No tokens yet, of `like`'s type and device."""
        # Zeros, not whatever memory holds: masked keys still enter the products.
        buffer = like.new_zeros(layers, 2, pictures, heads, max_len * width, d)
        own = like.new_full((width, width), -torch.inf).fill_diagonal_(0.0)
        mask = own.repeat(1, max_len).expand(pictures, -1, -1).contiguous()
        return cls(buffer, mask)

    @property
    def width(self) -> int:
        """W."""
        return self.mask_BWK.shape[1]

    def write(self, layer: int, kv_RchD: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Put a layer's new keys and values [B * W, 2, h, d]; its keys, values and mask so far."""
        first, last = self.length * self.width, (self.length + 1) * self.width
        layer_cBhKd = self.buffer_LcBhKd[layer]
        new = kv_RchD.unflatten(0, (-1, self.width)).permute(2, 0, 3, 1, 4)
        layer_cBhKd[:, :, :, first:last] = new
        keys, values = layer_cBhKd[:, :, :, :last]
        mask = self.mask_BWK[:, None, :, :last] if self.width > 1 else None
        return keys, values, mask

    def advance(self) -> Self:
        """One more token is written in every layer."""
        return replace(self, length=self.length + 1)

    def select(self, rows: Tensor) -> Self:
        """Keep rows [K * W]; see `State.select`."""
        pictures, width = self.mask_BWK.shape[:2]
        buffer, mask = self.buffer_LcBhKd, self.mask_BWK
        if len(rows) != pictures * width:
            kept = rows[::width] // width
            written = self.length * width
            buffer = buffer.new_zeros(*buffer.shape[:2], len(kept), *buffer.shape[3:])
            buffer[:, :, :, :, :written] = self.buffer_LcBhKd[:, :, :, :, :written].index_select(
                2, kept
            )
            mask = mask.index_select(0, kept)
        if width == 1:
            return replace(self, buffer_LcBhKd=buffer, mask_BWK=mask)
        parents = (rows % width).view(-1, width, 1).expand(-1, -1, self.length * width)
        past = mask[:, :, : self.length * width].gather(1, parents)
        return replace(
            self,
            buffer_LcBhKd=buffer,
            mask_BWK=torch.cat([past, mask[:, :, self.length * width :]], 2),
        )
