"""An encoder as a row of stages, the first of them frozen; knows no family of networks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, Self

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.models.captioner import Encoder

Train = Literal["none", "all"] | int
"""Which stages are fine-tuned: none, all, or the last so many."""


def count_frozen(train: Train, stages: int, name: str) -> int:
    """How many of an encoder's first stages stay as they are.

    Raises:
        ConfigError: more stages to train than there are.
    """
    if isinstance(train, str):
        return stages if train == "none" else 0
    if not 0 <= train <= stages:
        raise ConfigError(
            f"train.encoder.train = {train}: {name} has {stages} stages; none, all, or how many of "
            f"the last: 0 to {stages}"
        )
    return stages - train


class StagedEncoder(Encoder):
    """Stages in a row, each given the one before it; `features` ends where training starts."""

    def __init__(self, stages: nn.Sequential, train: Train, freeze_batch_norm: bool, name: str):
        super().__init__()
        frozen = count_frozen(train, len(stages), name)
        self.frozen = stages[:frozen]
        self.trained = stages[frozen:]
        self.freeze_batch_norm = freeze_batch_norm
        self.frozen.requires_grad_(False)
        self.train(False)

    @property
    def stages(self) -> nn.Sequential:
        """All stages, in order and under their own names; the modules are the encoder's."""
        return nn.Sequential(
            OrderedDict([*self.frozen.named_children(), *self.trained.named_children()])
        )

    def train(self, mode: bool = True) -> Self:
        """Training mode; frozen stages, and batch statistics where fixed, stay in evaluation."""
        super().train(mode)
        self.frozen.eval()
        if self.freeze_batch_norm:
            fix_batch_norm(self.trained)
        return self

    def features(self, images: Tensor) -> Tensor:
        """The frozen stages."""
        # Channels last: about twice the speed of a CNN on a CPU (oneDNN), and what tensor cores
        # want; tests/benchmarks/encoder_layout.py.
        out: Tensor = self.frozen(images.contiguous(memory_format=torch.channels_last))
        return out

    def memory(self, features: Tensor) -> Tensor:
        """The trained stages, then tokens [B, S, width]."""
        return self.tokens(self.trained(features))

    def tokens(self, out: Tensor) -> Tensor:
        """What the last stage gives as tokens [B, S, width]."""
        return out


def fix_batch_norm(module: nn.Module) -> None:
    """Batch normalisation below `module` uses its stored statistics and leaves them."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()
