"""A convolutional network's finer grids beside its last one, in the same tokens.

The last stages of a classifier know what there is, and hardly its colour any more. With all levels
a token carries, beside the last stage's channels, the mean over its place of the picture's own
colours and of the last stage of every finer grid: the taps of a feature pyramid (Lin et al. 2017,
arXiv:1612.03144), or a hypercolumn (Hariharan et al. 2015, arXiv:1411.5752), as coarse as the tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AllLevels(nn.Sequential):
    """Stages [B, 3, H, W] -> [B, C, h, w], whose grids shrink from stage to stage."""

    def forward(self, images: Tensor) -> Tensor:
        """The picture, then the last output of each grid, the coarsest last: C is all of their channels."""
        finer, out = [], images
        for stage in self:
            following = stage(out)
            if following.shape[-2:] != out.shape[-2:]:
                finer.append(out)
            out = following
        rows, columns = out.shape[-2:]
        pooled = [F.adaptive_avg_pool2d(level, (rows, columns)) for level in finer]
        return torch.cat([*pooled, out], 1)
