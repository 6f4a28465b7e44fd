"""Matrix products on a CPU through oneDNN, forwards and backwards; everywhere else torch's own.

torch multiplies float32 matrices on a CPU with MKL, which on AMD processors reaches about half of
what oneDNN, which torch also brings, does. `tests/benchmarks/search_speed.py` prints both.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pipeline.models import onednn
from pipeline.models.attention import attend

Activation = Literal["none", "gelu", "gelu_tanh"]

_ONEDNN, _DTYPES = onednn.operator("_linear_pointwise"), onednn.dtypes()
_FUSED = {
    "none": ("none", ""),
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
}


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, activation: Activation) -> Tensor:
    name, algorithm = _FUSED[activation]
    out: Tensor = _ONEDNN(x, _packed(weight), bias, name, [], algorithm)
    return out


def _packed(weight: Tensor) -> Tensor:
    """The weight in oneDNN's own order where `lay_out_for_inference` keeps it, unless it changed."""
    kept: tuple[tuple[int, int], Tensor] | None = getattr(weight, "packed_for_onednn", None)
    return kept[1] if kept is not None and kept[0] == _state(weight) else weight


def _state(weight: Tensor) -> tuple[int, int]:
    """What changes when a weight's place or numbers do."""
    return weight.data_ptr(), 0 if weight.is_inference() else weight._version


class _Product(torch.autograd.Function):
    """x @ weight.T + bias with a derivative; all three products of a training step are oneDNN's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.biased = bias is not None
        return _onednn(x, weight, bias, "none")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        rows = dy.flatten(0, -2)
        return (
            _onednn(dy, weight.t(), None, "none") if need_x else None,
            _onednn(rows.t(), x.flatten(0, -2).t(), None, "none") if need_weight else None,
            rows.sum(0) if need_bias and ctx.biased else None,
        )


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: Activation = "none"
) -> Tensor:
    """activation(x @ weight.T + bias) for x [..., I] and weight [O, I]."""
    if (
        _ONEDNN is not None
        and x.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.dtype in _DTYPES
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.enabled
        and not torch.compiler.is_compiling()  # which knows this operator for constant weights alone
        and x.numel()
    ):
        if not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)):
            return _onednn(x, weight, bias, activation)
        out: Tensor = _Product.apply(x, weight, bias)
    else:
        out = F.linear(x, weight, bias)
    if activation == "none":
        return out
    return F.gelu(out, approximate="tanh" if activation == "gelu_tanh" else "none")


class Linear(nn.Linear):
    """nn.Linear through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """[..., I] to [..., O]."""
        return linear(x, self.weight, self.bias)


class SelfAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention's own attention [B, S, D], without a mask, through `linear`."""

    def forward(  # type: ignore[override]
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = True, **_: object
    ) -> tuple[Tensor, Tensor | None]:
        """As nn.MultiheadAttention where it is asked for what no picture encoder asks for."""
        if need_weights or query is not key or key is not value:
            return super().forward(query, key, value, need_weights=need_weights)
        qkv = linear(query, self.in_proj_weight, self.in_proj_bias)
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.training or torch.is_grad_enabled():
            dropout = self.dropout if self.training else 0.0
            mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        else:
            mixed = attend(q, k, v)[0]
        return linear(
            mixed.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias
        ), None


def use_onednn(model: nn.Module) -> None:
    """Let the linear layers and attentions of someone else's model go through `linear`.

    Modules keep their names, tensors and results to float precision; subclasses with a forward of
    their own stay as they are.
    """
    for module in model.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
        elif type(module) is nn.MultiheadAttention and _plain(module):
            module.__class__ = SelfAttention


def lay_out_for_inference(model: nn.Module) -> None:
    """Let a model that stays on the CPU, in its type of number, have its matrices as oneDNN reads them.

    float32 is stored inputs first, which saves the turning at every product (a third of a small
    batch's time); of bfloat16 a second copy is kept in pairs of inputs, as the processor multiplies
    it (two fifths). Shapes, values and what is saved do not change.
    """
    if _ONEDNN is None:
        return
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            weight = isinstance(module, nn.Linear | nn.Embedding) and name == "weight"
            if parameter.dtype not in _DTYPES or not (weight or name == "in_proj_weight"):
                continue
            if parameter.dtype == torch.bfloat16:
                packed = torch.ops.mkldnn._reorder_linear_weight(parameter.data)
                parameter.packed_for_onednn = (_state(parameter), packed)  # type: ignore[attr-defined]
            else:
                parameter.data = parameter.data.t().contiguous().t()


def _plain(module: nn.MultiheadAttention) -> bool:
    return (
        module.batch_first
        and module.in_proj_weight is not None
        and module.bias_k is None
        and not module.add_zero_attn
    )
