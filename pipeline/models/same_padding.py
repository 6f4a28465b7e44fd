"""TensorFlow's SAME padding for torchvision's networks, which weights trained there expect.

Where a stride is above 1, torch pads both sides alike and TensorFlow pads so that the last output
touches the last pixel: at even sizes nothing before and one more after. Fed with torch's padding, such
weights see every layer shifted by half a pixel, and answer far less surely.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def same_padding(length: int, kernel: int, stride: int, dilation: int = 1) -> tuple[int, int]:
    """Pixels before and after a side (tf.nn, 'Notes on padding'): outputs are ceil(length / stride)."""
    outputs = -(-length // stride)
    total = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - length, 0)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution [B, C, H, W] padded with zeros as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        (top, bottom), (left, right) = self.margins(x)
        return super().forward(F.pad(x, (left, right, top, bottom)))

    def margins(self, x: Tensor) -> tuple[tuple[int, int], tuple[int, int]]:
        """Pixels before and after rows, and columns; the convolution itself adds none."""
        (kernel_y, kernel_x), (stride_y, stride_x) = self.kernel_size, self.stride
        return (
            same_padding(x.shape[2], kernel_y, stride_y, self.dilation[0]),
            same_padding(x.shape[3], kernel_x, stride_x, self.dilation[1]),
        )


class SameMaxPool2d(nn.MaxPool2d):
    """A pooling of a square kernel [B, C, H, W] that pads as TensorFlow does, with what never wins."""

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        assert isinstance(self.kernel_size, int)
        assert isinstance(self.stride, int)
        top, bottom = same_padding(x.shape[2], self.kernel_size, self.stride)
        left, right = same_padding(x.shape[3], self.kernel_size, self.stride)
        out: Tensor = super().forward(F.pad(x, (left, right, top, bottom), value=-float("inf")))
        return out


def pad_as_tensorflow(model: nn.Module) -> None:
    """Give every layer of `model` whose stride is above 1 SAME padding; names and tensors stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d and max(module.stride) > 1:
            module.__class__, module.padding = SameConv2d, (0, 0)
        elif type(module) is nn.MaxPool2d and module.stride != 1:
            module.__class__, module.padding = SameMaxPool2d, 0
