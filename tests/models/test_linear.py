"""oneDNN's products are torch's own, whatever the shape, layout and activation; training is untouched."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pipeline.models import linear as linears
from pipeline.models.linear import (
    Linear,
    SelfAttention,
    lay_out_for_inference,
    linear,
    use_onednn,
)


@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_torchs_own(activation, dtype):
    torch.manual_seed(0)
    layouts = (lambda w: w, lambda w: w.T.contiguous().T)
    rows = (lambda i: torch.randn(3, i), lambda i: torch.randn(2, i, 5).transpose(1, 2))
    for i, o, lay_out, x_of, biased in itertools.product(
        (1, 7, 16), (1, 5, 48), layouts, rows, (True, False)
    ):
        x, weight = x_of(i).to(dtype), lay_out(torch.randn(o, i).to(dtype))
        bias = torch.randn(o).to(dtype) if biased else None
        found = linear(x, weight, bias, activation)
        expected = F.linear(x.float(), weight.float(), bias.float() if biased else None)
        if activation != "none":
            expected = F.gelu(expected, approximate="tanh" if "tanh" in activation else "none")
        close = (
            {"atol": 1e-4, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.1, "rtol": 0.02}
        )
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, **close)
    assert linear(torch.randn(0, 7), torch.randn(5, 7)).shape == (0, 5)


def test_gradients_flow_where_they_are_wanted():
    layer, x = Linear(4, 3), torch.randn(2, 4, requires_grad=True)
    linear(x, layer.weight, layer.bias, "gelu_tanh").sum().backward()
    assert layer.weight.grad is not None
    assert x.grad is not None
    layer.requires_grad_(False)
    assert linear(x, layer.weight).requires_grad


class Someones(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.other = nn.MultiheadAttention(8, 2)  # sequence first: stays as it is
        self.body = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x):
        x = x + self.attention(x, x, x, need_weights=False)[0]
        x, shares = self.attention(x, x, x)
        return self.body(x + self.other(x, x, x)[0]), shares


@torch.no_grad()
def test_someone_elses_model_gives_the_same_with_the_same_tensors():
    model = Someones().eval()
    x = torch.randn(3, 5, 8)
    before, tensors = model(x), {k: v.clone() for k, v in model.state_dict().items()}
    use_onednn(model)
    assert isinstance(model.attention, SelfAttention)
    assert isinstance(model.body[0], Linear)
    assert type(model.other) is nn.MultiheadAttention
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-5)
    lay_out_for_inference(model)
    torch.testing.assert_close(model(x), before, atol=1e-5, rtol=1e-5)
    assert model.state_dict().keys() == tensors.keys()
    assert all(torch.equal(model.state_dict()[k], v) for k, v in tensors.items())


@pytest.mark.skipif(torch.bfloat16 not in linears._DTYPES, reason="a CPU without bfloat16")
@torch.no_grad()
def test_packed_bfloat16_weights_are_the_same_weights_until_they_change(monkeypatch):
    used = []
    packed = linears._packed
    monkeypatch.setattr(linears, "_packed", lambda w: used.append(packed(w)) or used[-1])
    model = Someones().eval().bfloat16()
    use_onednn(model)
    x = torch.randn(3, 5, 8).bfloat16()
    expected, state = model(x), {k: v.clone() for k, v in model.state_dict().items()}
    before = len(used)
    lay_out_for_inference(model)
    torch.testing.assert_close(model(x), expected, atol=0.02, rtol=0.02)
    assert all(w.is_mkldnn for w in used[before:]) and len(used) == 2 * before > 0
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    model.body[0].weight.zero_()
    assert not linear(x, model.body[0].weight).any()
    assert not used[-1].is_mkldnn
    model.body[2].weight.data = torch.zeros_like(model.body[2].weight)
    assert not linear(torch.ones(2, 16).bfloat16(), model.body[2].weight).any()


@torch.no_grad()
def test_embeddings_read_the_same_in_either_layout():
    embedding, ids = nn.Embedding(11, 6, padding_idx=0), torch.tensor([[3, 0], [10, 3]])
    before = embedding(ids)
    lay_out_for_inference(embedding)
    assert torch.equal(embedding(ids), before)


@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh"])
def test_gradients_are_torchs_own(activation):
    torch.manual_seed(0)
    rows = (lambda i: torch.randn(6, i), lambda i: torch.randn(2, i, 5).transpose(1, 2))
    for i, o, x_of, biased in itertools.product((1, 7, 16), (1, 5, 48), rows, (True, False)):
        leaves = [x_of(i), torch.randn(o, i), *([torch.randn(o)] if biased else [])]
        found, expected = ([leaf.clone().requires_grad_() for leaf in leaves] for _ in range(2))
        out = linear(*found, *([] if biased else [None]), activation)
        true = F.linear(*expected)
        if activation != "none":
            true = F.gelu(true, approximate="tanh" if "tanh" in activation else "none")
        direction = torch.randn_like(true)
        out.backward(direction)
        true.backward(direction)
        for mine, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_bfloat16_gradients_are_close_to_torchs_own():
    torch.manual_seed(0)
    leaves = [torch.randn(30, 16), torch.randn(8, 16), torch.randn(8)]
    found, expected = ([leaf.bfloat16().requires_grad_() for leaf in leaves] for _ in range(2))
    linear(*found).sum().backward()
    F.linear(*expected).sum().backward()
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad, atol=0.1, rtol=0.02)


def test_a_compiled_product_is_torchs_own():
    """Inductor takes oneDNN's operator with constant weights alone, and training's are not."""
    graphs = []

    def keep(graph, _):
        graphs.append(graph)
        return graph.forward

    x, weight, bias = torch.randn(3, 8), torch.randn(5, 8, requires_grad=True), torch.randn(5)
    out = torch.compile(linear, backend=keep)(x, weight, bias)
    torch.testing.assert_close(out, F.linear(x, weight, bias))
    assert [F.linear] == [n.target for n in graphs[0].graph.nodes if n.op == "call_function"]
