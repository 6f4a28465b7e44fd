"""Where a captioner calculates, and in which type of number."""

from __future__ import annotations

import re

import torch

from pipeline.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SUPPORTED = {
    "cpu": ("float32", "bfloat16"),
    "cuda": ("float32", "bfloat16", "float16"),
    "mps": ("float32", "float16"),
}
"""By kind of device. A CPU can calculate in float16, but gains nothing by it."""


def choose_device(device: str = "auto") -> torch.device:
    """`auto` is CUDA, else Apple's MPS, else the CPU.

    Raises:
        ConfigError: an unknown device, or one that this machine does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise ConfigError(f"device = {device!r} is not auto, cpu, mps, cuda or cuda:N")
    kind, _, index = device.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device = {device!r}: this machine has {torch.cuda.device_count()} CUDA devices; "
            "auto or cpu always work"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device = 'mps': this machine has no MPS device; auto or cpu always work")
    return torch.device(device)


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The type of number by its name, if `device` calculates in it at speed.

    Raises:
        ConfigError: an unknown type, or one that the device lacks.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype = {dtype!r} is not one of {', '.join(DTYPES)}")
    supported = SUPPORTED[device.type]
    name = str(device)
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 0):
        name = f"{torch.cuda.get_device_name(device)} ({device})"
        supported = tuple(known for known in supported if known != "bfloat16")
    if dtype not in supported:
        raise ConfigError(
            f"dtype = {dtype!r} is not for device {name}: choose {' or '.join(supported)}"
        )
    return DTYPES[dtype]
