"""Dropout with cheap random numbers on a CPU: a byte an element instead of a uniform number.

torch draws a double for each element on one core, which takes longer than the layer it follows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """nn.Dropout whose share is rounded to 1/256 on a CPU; kept elements grow to match exactly."""

    def forward(self, x: Tensor) -> Tensor:
        """X with elements set to zero, in training (Srivastava et al. 2014, section 10)."""
        dropped = round(self.p * 256)
        if not self.training or x.device.type != "cpu" or dropped in (0, 256):
            return super().forward(x)
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        return x * kept.to(x.dtype).mul_(256 / (256 - dropped))
