"""Attention of a few rows a picture over what they share: the memory, and the beams' own past.

Letters as in `captioner.py`; h is heads, d a head's width, Q queries, K keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

FEW, MANY = 16, 512
"""Queries up to which plain products beat the fused kernel on a CPU (search_speed.py): in any type of
number, and in bfloat16, in which the fused kernel multiplies no faster than in float32."""
ROOM = 8
"""Tokens for which a cache on a CPU makes room at a time (search_speed.py --growth)."""


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
    few = MANY if q_BhQd.dtype == torch.bfloat16 else FEW
    on_cpu = q_BhQd.device.type == "cpu" and not torch.is_grad_enabled()
    if causal or not (weights or (on_cpu and q_BhQd.shape[2] <= few)):
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
    if k_BhKd.dtype == torch.bfloat16:
        k_BhKd = k_BhKd.contiguous()  # oneDNN would copy it too, but turned, at twice the price
    scores = (q_BhQd * q_BhQd.shape[-1] ** -0.5) @ k_BhKd.transpose(2, 3)
    if mask is not None:
        scores += mask
    shares = scores.softmax(-1)
    return shares @ v_BhKd, shares.mean(1) if weights else None


@dataclass(frozen=True)
class BeamCache:
    """Keys and values of every token so far, written once and not moved when beams move.

    A picture's W beams keep their pasts side by side in slots, token after token, and `mask` says
    which of them are a beam's own ancestors; so a moved beam costs a row of the mask instead of its
    keys and values in every layer. Beams soon share all but their last tokens: when the slots are
    full, those that are no beam's ancestor are dropped, so that a long past is kept about once a
    picture, not once a beam. The buffers are shared by the states of a search: stepping from a
    state uses it up.
    """

    buffers_cBhKd: tuple[Tensor, ...]
    """Of each layer: c keys and values, K slots."""
    mask_BWK: Tensor
    """0 for a beam's own ancestors and minus infinity for others; right for the tokens to come."""
    tokens: int
    """Most tokens there may be."""
    length: int = 0
    """Tokens so far."""
    slots: int = 0
    """Slots they take."""

    @classmethod
    def empty(
        cls, like: Tensor, layers: int, pictures: int, width: int, max_len: int, heads: int, d: int
    ) -> Self:
        """No tokens yet, of `like`'s type and device."""
        # Which slots to drop is seen on the host, and depends on the data: on a GPU, whose steps
        # are recorded for one shape and never wait for the host, the slots suffice to the end.
        room = width * (min(ROOM, max_len) if like.device.type == "cpu" else max_len)
        buffers = tuple(like.new_empty(2, pictures, heads, room, d) for _ in range(layers))
        return cls(buffers, _own(like, pictures, width, room), max_len)

    @property
    def width(self) -> int:
        """W."""
        return self.mask_BWK.shape[1]

    def with_room(self) -> Self:
        """Room for one more token; where there is none, dead slots are dropped first."""
        (pictures, width, room), used = self.mask_BWK.shape, self.slots
        if used < room:
            return self
        live_BK = (self.mask_BWK == 0).any(1)
        slots = int(live_BK.sum(1).max())
        room = slots + width * min(ROOM, self.tokens - self.length)
        # A picture with fewer live slots keeps dead ones; what is to be written holds any numbers.
        order_BK = live_BK.byte().sort(descending=True, stable=True).indices[:, :slots]
        old_BK = torch.cat([order_BK, order_BK.new_zeros(pictures, room - slots)], 1)
        _, _, heads, _, d = self.buffers_cBhKd[0].shape
        first = torch.arange(0, 2 * pictures * heads * used, used, device=old_BK.device)
        rows = (first.view(2, pictures, heads, 1) + old_BK[:, None]).flatten()
        buffers = tuple(
            old.view(-1, d).index_select(0, rows).view(2, pictures, heads, room, d)
            for old in self.buffers_cBhKd
        )
        past = self.mask_BWK.gather(2, order_BK[:, None].expand(-1, width, -1))
        to_come = _own(past, pictures, width, room - slots)
        mask = torch.cat([past, to_come], 2)
        return replace(self, buffers_cBhKd=buffers, mask_BWK=mask, slots=slots)

    def write(self, layer: int, kv_RchD: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Put a layer's new keys and values [B * W, 2, h, d]; its keys, values and mask so far.

        There must be room; see `with_room`.
        """
        last = self.slots + self.width
        layer_cBhKd = self.buffers_cBhKd[layer]
        new = kv_RchD.unflatten(0, (-1, self.width)).permute(2, 0, 3, 1, 4)
        layer_cBhKd[:, :, :, self.slots : last] = new
        keys, values = layer_cBhKd[:, :, :, :last]
        mask = self.mask_BWK[:, None, :, :last] if self.width > 1 else None
        return keys, values, mask

    def advance(self) -> Self:
        """One more token is written in every layer."""
        return replace(self, length=self.length + 1, slots=self.slots + self.width)

    def select(self, rows: Tensor) -> Self:
        """Keep rows [K * W]; see `State.select`."""
        (pictures, width, _), used = self.mask_BWK.shape, self.slots
        buffers, mask = self.buffers_cBhKd, self.mask_BWK
        if len(rows) != pictures * width:
            kept = rows[::width] // width
            buffers = tuple(buffer.index_select(1, kept) for buffer in buffers)
            mask = mask.index_select(0, kept)
        if width > 1:
            parents = (rows % width).view(-1, width, 1).expand(-1, -1, used)
            mask = torch.cat([mask[:, :, :used].gather(1, parents), mask[:, :, used:]], 2)
        return replace(self, buffers_cBhKd=buffers, mask_BWK=mask)


def _own(like: Tensor, pictures: int, width: int, slots: int) -> Tensor:
    """The mask of slots to come [B, W, slots]: a token's slots are its beams', in order."""
    own = like.new_full((width, width), -torch.inf).fill_diagonal_(0.0)
    return own.repeat(1, slots // width).expand(pictures, -1, -1).contiguous()
