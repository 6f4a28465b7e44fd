from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.doctor import Inputs, devices


def test_the_cpu_calculates() -> None:
    findings = {each.subject: each for each in devices.check(Inputs(work="/w"))}
    assert findings["torch"].status == "ok"
    assert "float32 and bfloat16" in findings["cpu"].text


def test_a_device_that_miscalculates_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.Tensor.__matmul__

    def off(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        product = right(a, b)
        return product if product.dtype == torch.float64 else product.roll(1)

    monkeypatch.setattr(torch.Tensor, "__matmul__", off)
    finding = devices.calculates("gpu 0", torch.device("cpu"), ("bfloat16",))
    assert (finding.status, finding.text) == ("wrong", "a product in bfloat16 is not right")


def test_a_device_that_refuses_is_wrong() -> None:
    finding = devices.calculates("gpu 0", torch.device("cuda", 63), ("float32",))
    assert finding.status == "wrong"
    assert "no product in float32" in finding.text
    assert "nvidia-smi" in finding.mend


@pytest.mark.parametrize(
    ("built_for", "hidden", "status", "words"),
    [
        ("13.2", None, "wrong", "finds no GPU"),
        (None, None, "wrong", "built for CPUs alone"),
        ("13.2", "", "warning", "hides every GPU"),
    ],
)
def test_a_driver_without_a_gpu_in_torch(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built_for: str | None,
    hidden: str | None,
    status: str,
    words: str,
) -> None:
    assert devices._no_gpu(built_for).status == "ok" or devices.DRIVER.exists()
    monkeypatch.setattr(devices, "DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    finding = devices._no_gpu(built_for)
    assert finding.status == status
    assert words in finding.text
