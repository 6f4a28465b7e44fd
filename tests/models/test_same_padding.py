"""SAME padding: TensorFlow's published sizes, a plain computation, and encoders that use it."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from pipeline.errors import ConfigError
from pipeline.models.encoders import build_encoder
from pipeline.models.same_padding import pad_as_tensorflow, same_padding


@pytest.mark.parametrize(
    ("length", "kernel", "stride", "expected"),
    [
        (224, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (13, 6, 5, (1, 2)),  # the example of tf.nn's notes on padding
        (8, 1, 2, (0, 0)),
        (8, 7, 2, (2, 3)),
    ],
)
def test_pixels_on_each_side(length, kernel, stride, expected):
    assert same_padding(length, kernel, stride) == expected


@pytest.mark.parametrize("size", [7, 8, 9, 12])
def test_a_convolution_reads_what_tensorflow_reads(size):
    torch.manual_seed(0)
    layer, x = nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False), torch.randn(1, 2, size, size)
    plain = nn.Sequential(layer, nn.MaxPool2d(3, 2, 1))
    weight = layer.weight.detach().clone()
    pad_as_tensorflow(plain)
    before, after = same_padding(size, 3, 2)
    padded = F.pad(x, (before, after, before, after))
    steps = range(-(-size // 2))
    expected = torch.stack(
        [
            torch.stack(
                [
                    (weight * padded[0, None, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3]).sum(
                        (1, 2, 3)
                    )
                    for c in steps
                ],
                -1,
            )
            for r in steps
        ],
        -2,
    )
    torch.testing.assert_close(plain[0](x)[0], expected)
    pooled = plain(x)
    assert pooled.isfinite().all()
    assert pooled.shape[-1] == -(-len(steps) // 2)


def test_layers_without_a_stride_and_tensors_stay():
    model = torchvision.models.mobilenet_v2()
    names = list(model.state_dict())
    pad_as_tensorflow(model)
    assert list(model.state_dict()) == names
    changed = [m for m in model.modules() if type(m).__name__ == "SameConv2d"]
    assert len(changed) == 5
    assert all(max(m.stride) == 2 for m in changed)


def test_encoders_keep_their_grid_and_change_what_they_see():
    torch.manual_seed(0)
    plain = build_encoder("mobilenet_v2", size=32)
    same = build_encoder("mobilenet_v2", size=32, padding="same")
    same.load_state_dict(plain.state_dict())
    assert same.layout == plain.layout
    x = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        seen, before = same.stages(x), plain.stages(x)
    assert (seen - before).abs().max() > 0.1 * before.abs().max()


def test_only_convolutional_networks_have_it():
    for name in ("vit", "vit_b_16", "swin_t"):
        with pytest.raises(ConfigError, match="convolutional"):
            build_encoder(name, padding="same")
