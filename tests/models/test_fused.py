"""Fused convolutions: the plain stages' own results, in both precisions, after every change."""

from __future__ import annotations

import copy
import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.models import onednn
from pipeline.models.encoders import build_encoder
from pipeline.models.fused import FusedConv, fuse
from pipeline.models.stages import StagedEncoder

pytestmark = pytest.mark.skipif(
    onednn.operator("_convolution_pointwise") is None, reason="oneDNN's operators are for x86 CPUs"
)

FUSED: list[tuple[str, dict[str, Any]]] = [
    ("mobilenet_v2", {}),
    ("mobilenet_v2", {"padding": "same"}),
    ("mobilenet_v3_small", {}),
    ("efficientnet_b0", {}),
    ("regnet_y_400mf", {}),
    ("resnet18", {"padding": "same"}),
    ("resnet18", {"train": 2}),
    ("resnext50_32x4d", {}),
    ("mobilenet_v2", {"padding": "same", "levels": "all"}),
]
PLAIN: list[tuple[str, dict[str, Any]]] = [
    ("convnext_tiny", {}),
    ("swin_t", {}),
    ("resnet18", {"train": "all"}),
]


def built(name: str, settings: dict[str, Any]) -> StagedEncoder:
    """Batch norms with the statistics of what flows through them, so that pictures differ at the end."""
    torch.manual_seed(0)
    encoder = build_encoder(name, size=64, **settings)
    assert isinstance(encoder, StagedEncoder)
    for norm in norms(encoder):
        nn.init.uniform_(norm.weight, 0.5, 1.0)
        nn.init.uniform_(norm.bias, -0.2, 0.5)
        norm.momentum = None  # a plain mean
        norm.train()
    with torch.no_grad():
        encoder.stages(torch.randn(8, 3, 64, 64))
    encoder.eval()
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
    torch.testing.assert_close(encoder.features(pictures()), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(made(pictures()), encoder.features(pictures()), rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("sides", [(64, 64), (97, 65), (33, 80), (64, 97)])
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_same_padding_of_every_size(name: str, sides: tuple[int, int]) -> None:
    encoder = built(name, {"padding": "same"})
    for size in (sides, (64, 64)):
        images = torch.randn(1, 3, *size)
        expected = encoder.frozen(images)
        torch.testing.assert_close(encoder.features(images), expected, rtol=1e-3, atol=1e-3)


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
    assert strays < 2 * plain_strays
    # Pictures differ by more than that, or this says nothing.
    assert strays < float((exact[0] - exact[1]).norm())
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


@torch.no_grad()
def test_other_statistics_and_types_are_seen() -> None:
    encoder = built("resnet18", {})
    encoder.features(pictures())
    for norm in norms(encoder):
        norm.running_var.mul_(1.5)
    expected = encoder.frozen(pictures())
    torch.testing.assert_close(encoder.features(pictures()), expected, rtol=1e-3, atol=1e-3)
    moved = encoder.to(torch.bfloat16).features(pictures().bfloat16())
    assert moved.dtype == torch.bfloat16
    with pytest.raises(RuntimeError, match="should be the same"):
        encoder.features(pictures())
    back = encoder.to(torch.float32)
    expected = back.frozen(pictures())
    torch.testing.assert_close(back.features(pictures()), expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18"])
def test_a_weight_that_is_no_number_is_not_made_one(name: str) -> None:
    encoder = built(name, {})
    next(norms(encoder)).running_var.fill_(-1.0)
    assert not encoder.features(pictures()).isfinite().any()


@torch.no_grad()
def test_threads_that_start_together_get_the_same() -> None:
    """And nothing is patched in a process that does other things meanwhile."""
    encoders = [built("mobilenet_v2", {}) for _ in range(3)]
    expected, other = encoders[0].frozen(pictures()), nn.Sequential(nn.Linear(2, 2))
    stop = threading.Event()

    def elsewhere() -> int:
        count = 0
        while not stop.is_set():
            other(torch.ones(1, 2))
            count += 1
        return count

    with torch.inference_mode(), ThreadPoolExecutor(5) as pool:
        meanwhile = pool.submit(elsewhere)
        each = [pool.submit(quietly, encoder) for encoder in encoders for _ in range(4)]
        found = [one.result() for one in each]
        stop.set()
        assert meanwhile.result() > 0
    for features in found:
        torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-3)


def quietly(encoder: StagedEncoder) -> Tensor:
    with torch.no_grad():
        return encoder.features(pictures())


@torch.no_grad()
def test_copies_and_files_hold_no_fused_weights() -> None:
    encoder = built("mobilenet_v2", {})
    before = file_size(encoder)
    expected = encoder.features(pictures())
    assert file_size(encoder) == before
    twin = copy.deepcopy(encoder)
    torch.testing.assert_close(twin.features(pictures()), expected, rtol=0, atol=0)


def file_size(encoder: StagedEncoder) -> int:
    written = io.BytesIO()
    torch.save(encoder, written)
    return len(written.getvalue())


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
