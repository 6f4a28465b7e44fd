"""AdamW: rates of decoder and encoder apart, decay of matrices alone."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.config import TrainConfig
from pipeline.models.captioner import Captioner


def build_optimiser(model: Captioner, config: TrainConfig) -> torch.optim.AdamW:
    """The decoder, and what is trained of the encoder; each with and without weight decay."""
    groups = []
    parts = (
        ("decoder", model.decoder, config.learning_rate),
        ("encoder", model.encoder, config.encoder_learning_rate),
    )
    for label, part, peak in parts:
        for matrices, decay in ((True, config.weight_decay), (False, 0.0)):
            chosen = [
                parameter
                for name, parameter in part.named_parameters()
                if parameter.requires_grad and _is_matrix(part, name) == matrices
            ]
            if chosen:
                groups.append(
                    {"params": chosen, "part": label, "peak": peak, "weight_decay": decay}
                )
    return torch.optim.AdamW(groups, lr=0.0)


def _is_matrix(model: nn.Module, name: str) -> bool:
    """Whether it decays: not biases, norms, embeddings, position tables and class tokens."""
    module, _, kind = name.rpartition(".")
    matrix = kind.endswith("weight") and model.get_parameter(name).ndim > 1
    return matrix and not isinstance(model.get_submodule(module), nn.Embedding)


def set_learning_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Give every group `share` of its peak."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share


def learning_rates(optimiser: torch.optim.Optimizer) -> dict[str, float]:
    """The current rate of each part."""
    return {
        f"learning_rate_{group['part']}": float(group["lr"]) for group in optimiser.param_groups
    }
