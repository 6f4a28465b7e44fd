"""The Vision Transformer in stages: patch embedding, each block, the final norm.

Dosovitskiy et al. 2021, 'An Image is Worth 16x16 Words'; a second leading token is DeiT's
distillation token (Touvron et al. 2021). Tensors have torchvision's names.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import ConfigError
from pipeline.models.captioner import Layout
from pipeline.models.dropout import Dropout
from pipeline.models.stages import StagedEncoder, Train


class PatchEmbedding(nn.Module):
    """Pictures [B, 3, H, W] to tokens [B, P + h * w, D]: P leading ones, then patches."""

    def __init__(self, layout: Layout, patch: int, width: int, dropout: float) -> None:
        super().__init__()
        self.projection = nn.Conv2d(3, width, patch, patch)
        self.prefix = nn.Parameter(torch.zeros(1, layout.prefix, width))
        self.positions = nn.Parameter(torch.empty(1, layout.tokens, width).normal_(std=0.02))
        self.dropout = Dropout(dropout)
        nn.init.trunc_normal_(self.projection.weight, std=(3 * patch * patch) ** -0.5)
        assert self.projection.bias is not None
        nn.init.zeros_(self.projection.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Patches row by row behind the leading tokens, positions added."""
        patches = self.projection(images).flatten(2).transpose(1, 2)
        prefix = self.prefix.expand(len(images), -1, -1)
        out: Tensor = self.dropout(torch.cat([prefix, patches], 1) + self.positions)
        return out


class Block(nn.Module):
    """Attention, then an MLP, each on normed tokens [B, S, D] and added to them."""

    def __init__(self, heads: int, width: int, mlp: int, dropout: float, eps: float) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, eps)
        self.self_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.ln_2 = nn.LayerNorm(width, eps)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp, width),
            nn.Dropout(dropout),
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.normal_(layer.bias, std=1e-6)

    def forward(self, tokens_BSD: Tensor) -> Tensor:
        """The tokens, each with something of the others."""
        normed = self.ln_1(tokens_BSD)
        seen, _ = self.self_attention(normed, normed, normed, need_weights=False)
        tokens_BSD = self.dropout(seen) + tokens_BSD
        out: Tensor = tokens_BSD + self.mlp(self.ln_2(tokens_BSD))
        return out


class ViTEncoder(StagedEncoder):
    """A ViT without its head: normalised pictures [B, 3, H, W] to normed tokens [B, S, D].

    `stages` has these tensors: embedding.projection.{weight,bias}, embedding.prefix [1, P, D],
    embedding.positions [1, S, D], block_0, block_1, ... (ln_1, self_attention, ln_2,
    mlp.0, mlp.3), norm.{weight,bias}.
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch: int,
        depth: int,
        width: int,
        heads: int,
        mlp: int,
        prefix_tokens: int = 1,
        eps: float = 1e-6,
        dropout: float = 0.0,
        train: Train = "none",
        name: str = "vit",
    ) -> None:
        """Random weights.

        Args:
            image_size: side of the input in pixels, a multiple of `patch`.
            patch: side of a patch in pixels.
            depth: blocks.
            width: D, a multiple of `heads`.
            heads: attention heads.
            mlp: width inside a block's MLP.
            prefix_tokens: 1 (class), 2 (class, distillation) or 0.
            eps: of the layer norms.
            dropout: of the embedding and the blocks, while training.
            train: see `stages.count_frozen`; a stage is the embedding, a block, or the norm.
            name: for messages.

        Raises:
            ConfigError: sizes that cannot be, or more stages to train than there are.
        """
        if image_size % patch:
            raise ConfigError(
                f"train.transform.size = {image_size} is not a multiple of {name}'s patch of {patch} "
                f"pixels; {max(1, image_size // patch) * patch} and {-(-image_size // patch) * patch} are"
            )
        if width % heads:
            raise ConfigError(f"{name}: width = {width} is not a multiple of heads = {heads}")
        side = image_size // patch
        layout = Layout(prefix_tokens, side, side)
        norm = partial(nn.LayerNorm, eps=eps)
        stages: OrderedDict[str, nn.Module] = OrderedDict(
            embedding=PatchEmbedding(layout, patch, width, dropout)
        )
        for number in range(depth):
            stages[f"block_{number}"] = Block(heads, width, mlp, dropout, eps)
        stages["norm"] = norm(width)
        super().__init__(nn.Sequential(stages), train, True, name)
        self.width, self.layout = width, layout


def resample_positions(positions_1SD: Tensor, prefix: int, side: int) -> Tensor:
    """Position embeddings of a square grid for one of `side` x `side` patches.

    Bicubic with antialiasing, as timm does for ViT and DeiT; the `prefix` leading ones stay.

    Raises:
        ValueError: the patches of `positions` make no square.
    """
    patches = positions_1SD.shape[1] - prefix
    old = math.isqrt(max(patches, 0))
    if patches < 1 or old * old != patches:
        raise ValueError(f"{patches} patch positions are no square grid")
    if old == side:
        return positions_1SD
    leading, grid = positions_1SD[:, :prefix], positions_1SD[:, prefix:]
    grid = grid.unflatten(1, (old, old)).permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, (side, side), mode="bicubic", antialias=True)
    grid = grid.permute(0, 2, 3, 1).flatten(1, 2)
    return torch.cat([leading, grid.to(leading.dtype)], 1)


_RENAMES = (
    (r"conv_proj\.", "embedding.projection."),
    (r"class_token$", "embedding.prefix"),
    (r"encoder\.pos_embedding$", "embedding.positions"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.", r"block_\1."),
    (r"encoder\.ln\.", "norm."),
)


def from_torchvision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Torchvision's VisionTransformer tensors, of any version, under the names of `ViTEncoder.stages`."""
    renamed = {}
    for key, value in state.items():
        for theirs, ours in _RENAMES:
            key, found = re.subn(f"^{theirs}", ours, key)  # noqa: PLW2901
            if found:
                break
        # Files of before torchvision 0.13, those that it downloads among them.
        key = key.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")  # noqa: PLW2901
        renamed[key] = value
    return renamed
