"""torch, torchvision and the devices they calculate on: each is given a product to calculate."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong

if TYPE_CHECKING:
    import torch

GB = 1 << 30
LEAST_FREE = 2 * GB
"""Bytes of a GPU's memory."""
SIZE = 256
"""Rows and columns of the matrices."""
DRIVER = Path("/proc/driver/nvidia/version")


def check(inputs: Inputs) -> Iterator[Finding]:
    """Import both, then calculate on the CPU and on every GPU."""
    del inputs
    try:
        import torch
    except (ImportError, OSError) as error:
        yield wrong("torch", f"cannot be imported: {error}", "pip install --force-reinstall torch")
        return
    try:
        import torchvision

        boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
        torchvision.ops.nms(boxes, torch.tensor([1.0]), 0.5)  # of its compiled part
    except (ImportError, OSError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        mend = "reinstall both from the same index: pip install --force-reinstall torch torchvision"
        yield wrong("torchvision", f"does not work with torch {torch.__version__}: {first}", mend)
    else:
        yield ok("torch", f"{torch.__version__}, torchvision {torchvision.__version__}")
    yield calculates(
        "cpu", torch.device("cpu"), ("float32", "bfloat16"), str(torch.get_num_threads())
    )
    yield from _gpus()


def calculates(
    subject: str, device: torch.device, dtypes: tuple[str, ...], threads: str = ""
) -> Finding:
    """A product of two matrices in each type of number, held against the one in float64."""
    import torch

    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, SIZE, SIZE, generator=generator, dtype=torch.float64)
    expected = a @ b
    for name in dtypes:
        dtype: torch.dtype = getattr(torch, name)
        try:
            product = (a.to(device, dtype) @ b.to(device, dtype)).cpu().double()
        except RuntimeError as error:
            first = str(error).strip().splitlines()[0]
            return wrong(subject, f"no product in {name}: {first}", _mend(device))
        # What rounding the inputs and the sum's terms may come to; nonsense is far beyond it.
        allowed = 32 * torch.finfo(dtype).eps * SIZE**0.5
        if not bool((product - expected).abs().max() <= allowed):
            return wrong(subject, f"a product in {name} is not right", _mend(device))
    more = f", {threads} threads" if threads else ""
    return ok(subject, f"calculates in {' and '.join(dtypes)}{more}")


def _mend(device: torch.device) -> str:
    if device.type == "cpu":
        return "reinstall torch; if it stays, the processor or its memory is at fault"
    return "look at nvidia-smi and dmesg; restart the machine; if it stays, take the GPU out of service"


def _gpus() -> Iterator[Finding]:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        yield _no_gpu(torch.version.cuda)
        return
    driver = _driver()
    for number in range(count):
        subject, device = f"gpu {number}", torch.device("cuda", number)
        try:
            facts = torch.cuda.get_device_properties(device)
            free, total = torch.cuda.mem_get_info(device)
        except RuntimeError as error:
            yield wrong(subject, str(error).strip().splitlines()[0], _mend(device))
            continue
        newer = (facts.major, facts.minor) >= (8, 0)
        types = ("float32", "float16", "bfloat16") if newer else ("float32", "float16")
        text = f"{facts.name}, {free / GB:.1f} of {total / GB:.1f} GiB free, driver {driver}"
        if free < LEAST_FREE:
            mend = "nvidia-smi shows the processes that hold it"
            yield warning(subject, f"{text}: its memory is in use", mend)
        else:
            yield ok(subject, text + ("" if newer else ", no bfloat16"))
        yield calculates(subject, device, types)


def _no_gpu(built_for: str | None) -> Finding:
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not DRIVER.exists():
        return ok("gpu", "none; device: auto takes the CPU")
    if built_for is None:
        mend = "pip install --force-reinstall torch torchvision, the ordinary builds"
        return wrong("gpu", "there is a driver, but this torch is built for CPUs alone", mend)
    if hidden is not None:
        text = f"CUDA_VISIBLE_DEVICES={hidden!r} hides every GPU"
        return warning("gpu", text, "unset it, if GPUs are meant to be used")
    return wrong(
        "gpu",
        f"driver {_driver()}, but torch (CUDA {built_for}) finds no GPU",
        "a driver for that CUDA; in a container, --gpus all and NVIDIA's container toolkit",
    )


def _driver() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown"
    query = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    lines = said.stdout.split()
    return lines[0] if said.returncode == 0 and lines else "unknown"
