"""Frozen convolutions on a CPU: one oneDNN call for each convolution, its batch norm and activation.

A convolutional network spends more of its time on a CPU in moving numbers than in multiplying
them: batch norm and activation each read and write the whole grid again. Frozen stages let the
norm's fixed statistics go into the convolution's weights, and oneDNN applies the activation to what it
has at hand. This is what torch.compile makes of them too, without a compiler and its minutes.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.models.same_padding import SameConv2d, SameMaxPool2d

# The operator that torch.compile emits for a frozen convolution on an x86 CPU.
_ONEDNN = (
    getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    if platform.machine() in {"x86_64", "AMD64"} and torch.backends.mkldnn.is_available()
    else None
)
_DTYPES = {torch.float32}
if _ONEDNN is not None and torch.ops.mkldnn._is_mkldnn_bf16_supported():
    _DTYPES.add(torch.bfloat16)

Attributes = tuple[str, list[float], str]
"""An activation as the operator names it."""
NO_ACTIVATION: Attributes = ("none", [], "")
ACTIVATIONS: dict[type[nn.Module] | type[None], Attributes] = {
    nn.ReLU: ("relu", [], ""),
    nn.ReLU6: ("hardtanh", [0.0, 6.0], ""),
    nn.Hardswish: ("hardswish", [], ""),
    nn.SiLU: ("swish", [], ""),
}


class FusedStages:
    """What frozen stages give for a batch of pictures; the stages' own tensors stay as they are."""

    def __init__(self, stages: nn.Sequential) -> None:
        self.stages = stages
        self._made: nn.Module | None = None
        self._of: tuple[object, ...] = ()

    def __call__(self, images: Tensor) -> Tensor:
        """The stages' output for normalised pictures [B, 3, H, W], in the precision that holds."""
        automatic = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if automatic else images.dtype
        fused = self._fused(dtype) if _can_fuse(images, dtype) else None
        out: Tensor = self.stages(images) if fused is None else fused(images.to(dtype))
        return out

    def _fused(self, dtype: torch.dtype) -> nn.Module | None:
        """The fused stages, made anew when a tensor of the stages has changed."""
        tensors = [*self.stages.parameters(), *self.stages.buffers()]
        if any(tensor.is_inference() for tensor in tensors):
            return None  # nothing counts their changes
        of = (dtype, *((tensor.data_ptr(), tensor._version) for tensor in tensors))
        if of != self._of:
            self._made, self._of = fuse(self.stages, dtype), of
        return self._made


def _can_fuse(images: Tensor, dtype: torch.dtype) -> bool:
    return (
        _ONEDNN is not None
        and images.device.type == "cpu"
        and dtype in _DTYPES
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and images.numel() > 0
    )


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = (SameConv2d, SameMaxPool2d)
        return isinstance(m, own) or super().is_leaf_module(m, module_qualified_name)


def fuse(stages: nn.Module, dtype: torch.dtype) -> nn.Module | None:
    """Stages in evaluation mode as a network that calculates in `dtype`.

    None where convolutions and their norms are not all that has weights, or where the graph
    depends on what flows through it.
    """
    try:
        graph = _Tracer().trace(stages)
    except (fx.proxy.TraceError, TypeError):
        return None
    made = fx.GraphModule(stages, graph)
    modules = dict(made.named_modules())
    for node in graph.nodes:
        conv = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(conv, nn.Conv2d) or not _is_plain(conv):
            continue
        norm = _only_user(node, modules)
        if type(norm) is nn.BatchNorm2d and norm.running_var is not None:
            conv = fuse_conv_bn_eval(conv, norm)
            _leave_out_user(node)
        activation = _only_user(node, modules)
        attributes = NO_ACTIVATION
        if type(activation) in ACTIVATIONS:
            attributes = ACTIVATIONS[type(activation)]
            _leave_out_user(node)
        made.set_submodule(str(node.target), FusedConv(conv, attributes, dtype))
    made.recompile()
    made.delete_all_unused_submodules()
    # Whatever else has weights keeps its own, and its precision.
    others = [*made.parameters(), *made.buffers()]
    return made if not others and any(isinstance(m, FusedConv) for m in made.modules()) else None


def _is_plain(conv: nn.Conv2d) -> bool:
    """Whether the operator can do it."""
    dilated = isinstance(conv, SameConv2d) and conv.dilation != (1, 1)
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str) and not dilated


def _only_user(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    """The module that alone takes what a node gives."""
    users = [*node.users]
    if len(users) != 1 or users[0].op != "call_module":
        return None
    return modules.get(str(users[0].target))


def _leave_out_user(node: fx.Node) -> None:
    (user,) = node.users
    user.replace_all_uses_with(node)
    node.graph.erase_node(user)


class FusedConv(nn.Module):
    """A convolution [B, C, H, W] in evaluation mode, and the activation that follows it."""

    def __init__(self, conv: nn.Conv2d, attributes: Attributes, dtype: torch.dtype) -> None:
        """Of a convolution's tensors, copied in `dtype`; they are no parameters of this module."""
        super().__init__()
        self.conv, self.attributes = (conv,), attributes  # in a tuple it is no part of this one
        self.weight = conv.weight.detach().to(dtype, memory_format=torch.channels_last)
        self.bias = None if conv.bias is None else conv.bias.detach().to(dtype)
        self._grown: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        (conv,) = self.conv
        weight, padding = self.weight, conv.padding
        if isinstance(conv, SameConv2d):
            weight, padding = self._same(conv, x)
        out: Tensor = _ONEDNN(  # type: ignore[misc]
            x, weight, self.bias, padding, conv.stride, conv.dilation, conv.groups,
            *self.attributes,
        )  # fmt: skip
        return out

    def _same(self, conv: SameConv2d, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """A weight and what oneDNN pads on both sides, for SAME padding.

        A pixel more after than before is the same on both sides of a kernel with zeros before: it
        saves a copy of the picture.
        """
        (top, bottom), (left, right) = conv.margins(x)
        zeros = (right - left, 0, bottom - top, 0)
        if zeros not in self._grown:
            grown = F.pad(self.weight, zeros).contiguous(memory_format=torch.channels_last)
            self._grown[zeros] = grown
        return self._grown[zeros], (bottom, right)
