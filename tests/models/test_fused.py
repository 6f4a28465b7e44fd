"""Fused convolutions: the plain stages' own results, in both precisions, after every change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.encoders import build_encoder
from pipeline.models.fused import FusedConv, fuse
from pipeline.models.stages import StagedEncoder

FUSED: list[tuple[str, dict[str, Any]]] = [
    ("mobilenet_v2", {}),
    ("mobilenet_v2", {"padding": "same"}),
    ("mobilenet_v3_small", {}),
    ("efficientnet_b0", {}),
    ("regnet_y_400mf", {}),
    ("resnet18", {"padding": "same"}),
    ("resnet18", {"train": 2}),
    ("resnext50_32x4d", {}),
]
PLAIN: list[tuple[str, dict[str, Any]]] = [
    ("convnext_tiny", {}),
    ("swin_t", {}),
    ("mobilenet_v2", {"levels": "all"}),
    ("resnet18", {"train": "all"}),
]


def built(name: str, settings: dict[str, Any]) -> StagedEncoder:
    """Batch norms whose statistics are not those of a new one, so that folding them matters."""
    torch.manual_seed(0)
    encoder = build_encoder(name, size=64, **settings)
    assert isinstance(encoder, StagedEncoder)
    for norm in norms(encoder):
        for tensor in (norm.running_mean, norm.running_var, norm.weight, norm.bias):
            tensor.data.uniform_(0.5, 1.0)
    return encoder


def norms(module: nn.Module) -> Iterator[Any]:
    return (part for part in module.modules() if isinstance(part, nn.BatchNorm2d))


def pictures() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize(("name", "settings"), FUSED)
def test_what_is_fused_gives_what_the_stages_give(name: str, settings: dict[str, Any]) -> None:
    encoder = built(name, settings)
    made = fuse(encoder.frozen, torch.float32)
    assert made is not None
    assert any(isinstance(part, FusedConv) for part in made.modules())
    assert not [*norms(made)]
    expected = encoder.frozen(pictures())
    torch.testing.assert_close(encoder.features(pictures()), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made(pictures()), encoder.features(pictures()), rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize(("name", "settings"), FUSED)
def test_in_bfloat16_it_strays_no_further_than_the_stages_do(
    name: str, settings: dict[str, Any]
) -> None:
    encoder = built(name, settings)
    exact = encoder.features(pictures())
    with torch.autocast("cpu", torch.bfloat16):
        fused, plain = encoder.features(pictures()), encoder.frozen(pictures())
    assert fused.dtype == torch.bfloat16
    strays, plain_strays = (float((each - exact).norm()) for each in (fused, plain))
    assert strays < 2 * plain_strays + 1e-6
    # The stages' own tensors are still those of before.
    torch.testing.assert_close(encoder.features(pictures()), exact, rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize(("name", "settings"), PLAIN)
def test_stages_with_other_weights_stay_as_they_are(name: str, settings: dict[str, Any]) -> None:
    encoder = built(name, settings)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            images = pictures().contiguous(memory_format=torch.channels_last)
            expected = encoder.frozen(images)
            torch.testing.assert_close(encoder.features(images), expected, rtol=0, atol=0)


@torch.no_grad()
def test_other_weights_are_seen() -> None:
    encoder, other = built("mobilenet_v2", {}), built("mobilenet_v2", {})
    before = encoder.features(pictures())
    for parameter in other.parameters():
        parameter.mul_(0.9)
    encoder.load_state_dict(other.state_dict())
    after = encoder.features(pictures())
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, other.features(pictures()), rtol=0, atol=0)


@torch.inference_mode()
def test_other_weights_are_seen_where_nothing_counts_changes() -> None:
    encoder = built("mobilenet_v2", {})
    before = encoder.features(pictures())
    for parameter in encoder.parameters():
        parameter.mul_(0.9)
    assert not torch.allclose(before, encoder.features(pictures()))


def test_the_state_of_an_encoder_is_that_of_its_stages() -> None:
    encoder = built("mobilenet_v2", {})
    names = set(encoder.state_dict())
    with torch.no_grad():
        encoder.features(pictures())
    assert set(encoder.state_dict()) == names
    assert len([*encoder.parameters()]) == len([*encoder.frozen.parameters()])
    assert encoder.features(pictures().requires_grad_()).requires_grad
