"""Frozen convolutions on a CPU: one oneDNN call for each convolution, its batch norm and activation.

A convolutional network spends more of its time on a CPU in moving numbers than in multiplying
them: batch norm and activation each read and write the whole grid again. Frozen stages let the
norm's fixed statistics go into the convolution's weights, and oneDNN applies the activation to what it
has at hand. This is what torch.compile makes of them too, without a compiler and its minutes.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pipeline.models import onednn
from pipeline.models.same_padding import SameConv2d

_ONEDNN, _DTYPES = onednn.operator("_convolution_pointwise"), onednn.dtypes()

Attributes = tuple[str, list[float], str]
"""An activation as the operator names it."""
NO_ACTIVATION: Attributes = ("none", [], "")
ACTIVATIONS: dict[type, Attributes] = {
    type(None): NO_ACTIVATION,
    nn.ReLU: ("relu", [], ""),
    nn.ReLU6: ("hardtanh", [0.0, 6.0], ""),
    nn.Hardswish: ("hardswish", [], ""),
    nn.SiLU: ("swish", [], ""),
}


class FusedStages:
    """Makes the fused networks of an encoder's stages, one a precision, and keeps them."""

    def __init__(self) -> None:
        self._made: dict[torch.dtype, tuple[object, nn.Module | None]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: copies and files hold the stages alone."""
        return {"_made": {}}

    def __call__(self, stages: nn.Sequential, images: Tensor) -> Tensor:
        """What stages give for normalised pictures [B, 3, H, W], in the precision that holds.

        A change of weights is seen as torch counts it: not one through `.data` or NumPy. Pictures
        are finite: oneDNN's activations make numbers of what is none.
        """
        automatic = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if automatic else images.dtype
        fused = self._fused(stages, dtype, automatic) if _can_fuse(images, dtype) else None
        out: Tensor = stages(images) if fused is None else fused(images.to(dtype))
        return out

    def _fused(
        self, stages: nn.Sequential, dtype: torch.dtype, automatic: bool
    ) -> nn.Module | None:
        """The fused stages, made anew when a tensor of the stages has changed."""
        tensors = [*stages.parameters(), *stages.buffers()]
        if stages.training or any(tensor.is_inference() for tensor in tensors):
            return None  # of inference tensors nothing counts the changes
        if not automatic and any(t.dtype != dtype for t in tensors if t.is_floating_point()):
            return None
        of = (id(stages), *((tensor.data_ptr(), tensor._version) for tensor in tensors))
        kept = self._made.get(dtype)
        if kept is None or kept[0] != of:
            kept = self._made[dtype] = (of, fuse(stages, dtype))
        return kept[1]


def _can_fuse(images: Tensor, dtype: torch.dtype) -> bool:
    return (
        _ONEDNN is not None
        and images.device.type == "cpu"
        and dtype in _DTYPES
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and images.numel() > 0
    )


@torch.no_grad()
def fuse(stages: nn.Module, dtype: torch.dtype) -> nn.Module | None:
    """Stages in evaluation mode as a network that calculates in `dtype`.

    None where convolutions and their norms are not all that has weights: whatever else has some keeps
    its own, and its precision. None where a weight is infinite or no number, too, which is to show in what
    comes of it.
    """
    made = _copied(stages, dtype)
    convs = [part for part in made.modules() if isinstance(part, FusedConv)]
    others = [*made.parameters(), *made.buffers()]
    return made if convs and not others and all(conv.is_finite for conv in convs) else None


def _copied(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A module of the same class with fused children; the module itself stays as it is."""
    if isinstance(module, nn.Conv2d):
        return FusedConv(module, None, None, dtype) if _is_plain(module) else module
    made, children = copy.copy(module), module._modules
    parts: dict[str, nn.Module | None] = {}
    for name, (norm, activation) in _followers(module).items():
        conv = children[name]
        assert isinstance(conv, nn.Conv2d)
        after: list[Any] = [
            children[left_out] if left_out else None for left_out in (norm, activation)
        ]
        parts[name] = FusedConv(conv, after[0], after[1], dtype)
        parts |= {left_out: nn.Identity() for left_out in (norm, activation) if left_out}
    for name, child in children.items():
        if name not in parts:
            parts[name] = None if child is None else _copied(child, dtype)
    made.__dict__["_modules"] = {name: parts[name] for name in children}
    return made


def _followers(module: nn.Module) -> dict[str, tuple[str | None, str | None]]:
    """The names of a module's convolutions, and of the norm and the activation that take what each gives."""
    import torchvision  # there already, where a module is torchvision's

    resnet = torchvision.models.resnet
    if isinstance(module, resnet.BasicBlock | resnet.Bottleneck):
        pairs = [(f"conv{number}", f"bn{number}") for number in (1, 2, 3)]
        return {conv: (norm, None) for conv, norm in pairs if _are_a_pair(module, conv, norm)}
    found: dict[str, tuple[str | None, str | None]] = {}
    if type(module).forward is not nn.Sequential.forward:
        return found
    names = [*module._modules, None, None]
    for place, name in enumerate(names[:-2]):
        if name is None or not _is_plain(module._modules[name]):
            continue
        following = names[place + 1]
        norm = following if _are_a_pair(module, name, following) else None
        last = names[place + 2] if norm else following
        fits = last is not None and type(module._modules[last]) in ACTIVATIONS
        found[name] = (norm, last if fits else None)
    return found


def _are_a_pair(module: nn.Module, conv: str, norm: str | None) -> bool:
    """Whether a batch norm of fixed statistics can go into a convolution."""
    if norm is None or not _is_plain(module._modules.get(conv)):
        return False
    after = module._modules.get(norm)
    return type(after) is nn.BatchNorm2d and after.running_var is not None and not after.training


def _is_plain(conv: nn.Module | None) -> bool:
    """Whether it is a convolution that the operator can do."""
    if not isinstance(conv, nn.Conv2d):
        return False
    dilated = isinstance(conv, SameConv2d) and conv.dilation != (1, 1)
    return conv.padding_mode == "zeros" and not isinstance(conv.padding, str) and not dilated


class FusedConv(nn.Module):
    """A convolution [B, C, H, W] in evaluation mode, with the norm and the activation that follow it."""

    def __init__(
        self,
        conv: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        activation: nn.Module | None,
        dtype: torch.dtype,
    ) -> None:
        """Of their tensors, copied in `dtype`, which are no parameters of this module."""
        super().__init__()
        self.padding, self.stride, self.dilation = conv.padding, conv.stride, conv.dilation
        self.groups, self.attributes = conv.groups, ACTIVATIONS[type(activation)]
        self.margins = conv.margins if isinstance(conv, SameConv2d) else None
        weight, bias = conv.weight.detach().float(), conv.bias
        if norm is not None:
            statistics = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            mean, variance, scale, shift = (None if t is None else t.float() for t in statistics)
            assert mean is not None
            assert variance is not None
            weight, bias = fuse_conv_bn_weights(
                weight,
                None if bias is None else bias.float(),
                mean,
                variance,
                norm.eps,
                scale,
                shift,
            )
        self.weight = weight.detach().to(dtype, memory_format=torch.channels_last)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.is_finite = all(
            bool(t.isfinite().all()) for t in (self.weight, self.bias) if t is not None
        )
        self._grown: dict[tuple[int, ...], Tensor] = {}

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        weight, padding = self.weight, self.padding
        if self.margins is not None:
            weight, padding = self._same(*self.margins(x))
        out: Tensor = _ONEDNN(
            x, weight, self.bias, padding, self.stride, self.dilation, self.groups, *self.attributes
        )
        return out

    def _same(
        self, rows: tuple[int, int], columns: tuple[int, int]
    ) -> tuple[Tensor, tuple[int, int]]:
        """A weight and what oneDNN pads on both sides, for SAME padding.

        A pixel more after than before is the same on both sides of a kernel with zeros before: it
        saves a copy of the picture.
        """
        (top, bottom), (left, right) = rows, columns
        zeros = (right - left, 0, bottom - top, 0)
        if zeros not in self._grown:
            grown = F.pad(self.weight, zeros).contiguous(memory_format=torch.channels_last)
            self._grown[zeros] = grown
        return self._grown[zeros], (bottom, right)
