"""AdamW with the encoder's learning rate apart, warm-up and cosine decay."""

from __future__ import annotations

import math

import torch

from pipeline.config import TrainConfig
from pipeline.models.captioner import Captioner


def build_optimiser(model: Captioner, config: TrainConfig) -> torch.optim.AdamW:
    """Two groups: the decoder, and what is trained of the encoder."""
    groups = [
        {"params": list(model.decoder.parameters()), "peak": config.learning_rate},
        {
            "params": [p for p in model.encoder.parameters() if p.requires_grad],
            "peak": config.encoder_learning_rate,
        },
    ]
    used = [group for group in groups if group["params"]]
    return torch.optim.AdamW(used, lr=0.0, weight_decay=config.weight_decay)


def set_learning_rate(
    optimiser: torch.optim.Optimizer, step: int, total: int, warmup: int
) -> float:
    """Linear warm-up, then a cosine to a hundredth of the peak; returns the decoder's rate.

    A function of the step alone, so that resuming needs no scheduler state.
    """
    if step < warmup:
        share = (step + 1) / warmup
    else:
        way = (step - warmup) / max(total - warmup, 1)
        share = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(way, 1.0)))
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share
    return float(optimiser.param_groups[0]["lr"])
