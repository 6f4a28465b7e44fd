"""Torchvision networks that end in a grid of channels: CNNs, ConvNeXt and Swin, in stages."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.models.captioner import Layout
from pipeline.models.fused import FusedStages
from pipeline.models.stages import StagedEncoder, Train


class GridEncoder(StagedEncoder):
    """A network without its head: normalised pictures [B, 3, H, W] to a grid's tokens."""

    def __init__(
        self,
        stages: nn.Sequential,
        *,
        size: int,
        train: Train,
        freeze_batch_norm: bool,
        channels_first: bool,
        name: str,
    ) -> None:
        """An encoder of `stages`.

        Args:
            stages: pictures to a grid.
            size: side of the input in pixels.
            train: see `stages.count_frozen`.
            freeze_batch_norm: keep batch statistics fixed in the trained stages too.
            channels_first: whether the grid is [B, C, h, w] rather than [B, h, w, C].
            name: for messages.
        """
        super().__init__(stages, train, freeze_batch_norm, name)
        self.channels_first = channels_first
        self.fused = FusedStages()
        self.to(memory_format=torch.channels_last)
        try:
            with torch.inference_mode():
                grid = stages(torch.zeros(1, 3, size, size))
        except RuntimeError as error:
            raise ConfigError(
                f"train.transform.size = {size} is too small for {name}: {error}"
            ) from None
        rows, columns, channels = (1, 2, 3) if not channels_first else (2, 3, 1)
        self.width = grid.shape[channels]
        self.layout = Layout(0, grid.shape[rows], grid.shape[columns])

    def features(self, images: Tensor) -> Tensor:
        """The frozen stages, on a CPU in as few passes as there are convolutions."""
        return self.fused(self.frozen, images.contiguous(memory_format=torch.channels_last))

    def tokens(self, out: Tensor) -> Tensor:
        """The grid row by row: [B, h * w, C]."""
        return out.flatten(2).transpose(1, 2) if self.channels_first else out.flatten(1, 2)


def cut(model: nn.Module) -> nn.Sequential:
    """A torchvision classifier's stages without its head."""
    import torchvision  # a second or more, which other encoders do not need

    if isinstance(model, torchvision.models.ResNet):
        stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        return nn.Sequential(stem, model.layer1, model.layer2, model.layer3, model.layer4)
    if isinstance(model, torchvision.models.RegNet):
        return nn.Sequential(model.stem, *model.trunk_output)
    features = model.features
    assert isinstance(features, nn.Sequential)
    if isinstance(model, torchvision.models.SwinTransformer):
        return nn.Sequential(*features[:-1], nn.Sequential(features[-1], model.norm))
    return features
