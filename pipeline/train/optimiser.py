"""AdamW: rates of decoder and encoder apart, decay of matrices alone, warm-up and cosine."""

from __future__ import annotations

import math

import torch
from torch import nn

from pipeline.config import TrainConfig
from pipeline.models.captioner import Captioner


def build_optimiser(model: Captioner, config: TrainConfig) -> torch.optim.AdamW:
    """The decoder, and what is trained of the encoder; each with and without weight decay."""
    groups = []
    parts = (
        (model.decoder, config.learning_rate),
        (model.encoder, config.encoder_learning_rate),
    )
    for part, peak in parts:
        for matrices, decay in ((True, config.weight_decay), (False, 0.0)):
            chosen = [
                parameter
                for name, parameter in part.named_parameters()
                if parameter.requires_grad and _is_matrix(part, name) == matrices
            ]
            if chosen:
                groups.append({"params": chosen, "peak": peak, "weight_decay": decay})
    return torch.optim.AdamW(groups, lr=0.0)


def _is_matrix(model: nn.Module, name: str) -> bool:
    """Whether it decays: not biases, norms, embeddings, position tables and class tokens."""
    module, _, kind = name.rpartition(".")
    matrix = kind.endswith("weight") and model.get_parameter(name).ndim > 1
    return matrix and not isinstance(model.get_submodule(module), nn.Embedding)


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
