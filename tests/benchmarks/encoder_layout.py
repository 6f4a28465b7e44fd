"""The encoder's rate with channels last beside the default memory layout, on the CPU.

    python tests/benchmarks/encoder_layout.py [--encoder mobilenet_v2] [--batch 32] [--runs 7]

Prints the median over alternating runs of both rates and of their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
import torchvision
from torch import Tensor, nn

from pipeline.models.encoders import build_encoder


def rate(model: nn.Module, images: Tensor) -> float:
    started = time.perf_counter()
    model(images)
    return len(images) / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="mobilenet_v2")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    images = torch.randn(options.batch, 3, 224, 224)
    ours = build_encoder(options.encoder)
    stages = ours.frozen
    plain = torchvision.models.get_model(options.encoder, weights=None).eval()
    plain = (
        plain.features
        if hasattr(plain, "features")
        else nn.Sequential(*list(plain.children())[:-2])
    )
    with torch.inference_mode():
        last = images.contiguous(memory_format=torch.channels_last)
        for model, batch in ((stages, last), (plain, images)):
            model(batch[:4])
        pairs = [(rate(stages, last), rate(plain, images)) for _ in range(options.runs)]
    fast, slow = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    print(
        f"{options.encoder}, {torch.get_num_threads()} threads, {options.runs} runs: channels last "
        f"{fast:.1f} img/s, default {slow:.1f} img/s, ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
