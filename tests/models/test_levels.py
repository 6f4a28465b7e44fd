"""All levels of a convolutional network: what its tokens carry, where, and where there are none."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch.nn import functional as F

from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.models.encoders import build_encoder


@pytest.fixture
def images():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def test_tokens_carry_the_picture_and_the_last_stage_of_each_grid(images):
    torch.manual_seed(0)
    encoder = build_encoder("resnet18", size=64, levels="all")
    net = torchvision.models.resnet18().eval()
    net.load_state_dict({**net.state_dict(), **named_as_theirs(encoder)})
    stem = net.relu(net.bn1(net.conv1(images)))
    first = net.layer1(net.maxpool(stem))  # pooled in the stem: one stage, one grid
    second = net.layer2(first)
    third = net.layer3(second)
    last = net.layer4(third)
    grids = [images, first, second, third, last]
    expected = torch.cat([F.adaptive_avg_pool2d(grid, 2) for grid in grids], 1)
    tokens = encoder.memory(encoder.features(images))
    torch.testing.assert_close(tokens, expected.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-3)
    assert encoder.width == 3 + 64 + 128 + 256 + 512
    assert encoder.layout == (0, 2, 2)


def named_as_theirs(encoder):
    """The encoder's tensors under torchvision's names for a ResNet."""
    stem = {"0": "conv1", "1": "bn1"}
    named = {}
    for key, value in encoder.stages.state_dict().items():
        stage, _, rest = key.partition(".")
        part, _, tensor = rest.partition(".")
        named[f"{stem[part]}.{tensor}" if stage == "0" else f"layer{stage}.{rest}"] = value
    return named


@torch.inference_mode()
def test_a_colour_is_seen_where_it_is(images):
    encoder = build_encoder("mobilenet_v2", size=64, levels="all")
    coloured = images.clone()
    coloured[:, 0, :32, 32:] += 1.0  # more red in the upper right quarter
    change = encoder.features(coloured)[:, :3] - encoder.features(images)[:, :3]
    expected = torch.zeros(2, 3, 2, 2)
    expected[:, 0, 0, 1] = 1.0
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name", ["convnext_tiny", "efficientnet_b0", "regnet_x_400mf", "mobilenet_v3_small"]
)
@torch.inference_mode()
def test_the_last_stage_is_what_it_is_without(name, images):
    torch.manual_seed(0)
    every = build_encoder(name, size=64, levels="all")
    last = build_encoder(name, size=64)
    last.load_state_dict(every.state_dict())
    tokens = every.memory(every.features(images))
    assert tokens.shape[1:] == (every.layout.tokens, every.width)
    torch.testing.assert_close(tokens[..., -last.width :], last.memory(last.features(images)))
    assert every.width > last.width + 3


def test_where_there_are_none():
    for name in ("vit", "vit_b_16", "swin_t"):
        with pytest.raises(ConfigError, match=r"levels = 'all' is for .* not for"):
            build_encoder(name, levels="all")
    with pytest.raises(ConfigError, match="levels = all needs train = none, not 2"):
        load_config(None, ["train.encoder.levels=all", "train.encoder.train=2"])
    with pytest.raises(ConfigError, match="levels = all is for torchvision's convolutional"):
        load_config(None, ["train.encoder={name: swin_t, levels: all}"])
    frozen = load_config(None, ["train.encoder.levels=all", "train.encoder.train=0"]).train.encoder
    assert (frozen.levels, frozen.train) == ("all", "none")
    assert load_config(None, ["train.encoder.levels=none"]).train.encoder.levels is None
