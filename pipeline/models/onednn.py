"""oneDNN's fused operators for x86 CPUs, which torch.compile emits and torch offers to nobody else."""

from __future__ import annotations

import platform
from typing import Any

import torch

_HERE = platform.machine() in {"x86_64", "AMD64"} and torch.backends.mkldnn.is_available()


def operator(name: str) -> Any:
    """The operator `torch.ops.mkldnn.<name>`; None where there is none. They bring no derivative."""
    return getattr(torch.ops.mkldnn, name, None) if _HERE else None


def dtypes() -> frozenset[torch.dtype]:
    """What this processor calculates in at speed."""
    fast = _HERE and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return frozenset({torch.float32, torch.bfloat16} if fast else {torch.float32})
