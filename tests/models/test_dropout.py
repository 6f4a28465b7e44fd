"""Dropout: the share that is asked for, an unchanged mean, nothing outside training."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_drops_the_share_and_keeps_the_mean(share, dtype):
    torch.manual_seed(0)
    out = Dropout(share)(torch.ones(301, 1001, dtype=dtype))
    assert out.dtype == dtype
    assert (out == 0).double().mean().item() == pytest.approx(share, abs=0.004)
    assert out.double().mean().item() == pytest.approx(1.0, rel=0.01)
    assert len(out.unique()) == 2


def test_elements_are_dropped_apart_from_each_other():
    torch.manual_seed(0)
    dropped = (Dropout(0.5)(torch.ones(64, 4096)) == 0).double()
    assert (torch.corrcoef(dropped) - torch.eye(64)).abs().max() < 0.1
    assert (torch.corrcoef(dropped[:, :128].T) - torch.eye(128)).abs().max() < 0.7


def test_gradient_passes_where_the_value_did():
    torch.manual_seed(0)
    x = torch.randn(7, 13, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), out.detach())


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_none_and_all(share):
    x = torch.randn(5, 3)
    assert torch.equal(Dropout(share)(x), x * (1 - share))


def test_nothing_outside_training():
    x = torch.randn(5, 3)
    assert Dropout(0.5).eval()(x) is x


def test_the_seed_decides():
    drop, x = Dropout(0.5), torch.ones(50)
    torch.manual_seed(3)
    first = drop(x)
    assert not torch.equal(drop(x), first)
    torch.manual_seed(3)
    assert torch.equal(drop(x), first)
