"""An encoder's rate on the CPU as we run it, beside torchvision's own model as it comes.

    python tests/benchmarks/encoder_layout.py [--encoder mobilenet_v2] [--batch 32] [--runs 5]

Four rows, each with what it adds: torchvision's; channels last; convolutions fused with what follows
them (`models.fused`); memory that is kept (`memory.py`). Every row is a process of its own, since
what a process does with its memory cannot be taken back; the rows take turns, and the ratios to the
first are medians over the turns. In float32, then in bfloat16 autocast.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import torch

from pipeline.memory import keep_freed_memory
from pipeline.models.encoders import build_encoder

ROWS = ("torchvision", "channels last", "fused", "fused, memory kept")


def rate(row: str, encoder: str, batch: int, bf16: bool) -> float:
    """Pictures a second: the median of seven batches after two."""
    if "kept" in row:
        keep_freed_memory()
    built = build_encoder(encoder)
    images = torch.randn(batch, 3, 224, 224)
    if row == "torchvision":
        stages = built.frozen.to(memory_format=torch.contiguous_format)
    else:
        images = images.contiguous(memory_format=torch.channels_last)
        stages = built.frozen if row == "channels last" else built.features
    seconds = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for _ in range(9):
            began = time.perf_counter()
            stages(images)
            seconds.append(time.perf_counter() - began)
    return batch / statistics.median(seconds[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoder", default="mobilenet_v2")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--row", choices=ROWS, help="this one alone: its rate and no table")
    parser.add_argument("--bf16", action="store_true")
    options = parser.parse_args()
    if options.row:
        print(rate(options.row, options.encoder, options.batch, options.bf16))
        return
    print(f"{options.encoder}, batches of {options.batch}, {torch.get_num_threads()} threads\n")
    print("| | float32 img/s | ratio | bfloat16 img/s | ratio |\n|---|---:|---:|---:|---:|")
    found: dict[tuple[str, bool], list[float]] = {}
    for _ in range(options.runs):
        for row in ROWS:
            for bf16 in (False, True):
                command = [sys.executable, __file__, "--row", row, "--encoder", options.encoder]
                command += ["--batch", str(options.batch), *(["--bf16"] if bf16 else [])]
                out = subprocess.run(command, check=True, capture_output=True, text=True)
                found.setdefault((row, bf16), []).append(float(out.stdout))
    for row in ROWS:
        cells = []
        for bf16 in (False, True):
            pairs = zip(found[row, bf16], found[ROWS[0], bf16], strict=True)
            ratio = statistics.median(ours / first for ours, first in pairs)
            cells += [f"{statistics.median(found[row, bf16]):.1f}", f"{ratio:.2f}"]
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
