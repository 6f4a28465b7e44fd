"""Memory and speed of a training on the CPU as it goes on, with and without sizes that recur.

    python tests/benchmarks/train_growth.py [--steps 600] [--every 100]

A frozen MobileNetV2 (random weights, bfloat16) with attention + LSTM, as configs/flickr8k_best.yaml
has it, and random captions whose lengths are spread as Flickr8k's; no pictures are read. Each row is
a process of its own: places asked for in multiples of 64 (`train/asked.py`) or exactly as many as
there are words, each with freed memory kept (`memory.py`) or as glibc does it. They run one after
the other; pictures a second and the process's memory by steps, as a Markdown table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

from pipeline.config import TrainConfig
from pipeline.images import Transform
from pipeline.memory import keep_freed_memory
from pipeline.models.build import build
from pipeline.models.saved import SavedCaptioner
from pipeline.text import Tokenizer
from pipeline.train import asked
from pipeline.train.build import begin
from pipeline.train.deterministic import deterministic
from pipeline.train.loader import Batch
from pipeline.train.schedule import Schedule
from pipeline.train.step import Stepper

VOCABULARY, PICTURES, CAPTIONS, LONGEST = 3000, 32, 5, 24
SETTINGS = {
    "encoder": {"name": "mobilenet_v2", "train": "none"},
    "decoder": {"kind": "lstm", "width": 512, "embedding": 512, "attention": 256, "dropout": 0.5},
    "batch_size": PICTURES,
    "label_smoothing": 0.1,
    "attention_penalty": 1.0,
    "precision": "bf16",
    "cache_features": False,
    "max_caption_tokens": LONGEST,
}


def stepper() -> Stepper:
    """The train stage's own, on random weights."""
    settings = TrainConfig.model_validate(SETTINGS)
    tokenizer = Tokenizer.train([f"word{number}" for number in range(VOCABULARY)])
    transform = Transform()
    architecture = {
        "encoder": settings.encoder.model_dump(mode="json", exclude_none=True),
        "decoder": {**settings.decoder.model_dump(mode="json"), "pad": tokenizer.pad},
        "vocabulary": len(tokenizer),
        "size": transform.size,
    }
    torch.manual_seed(0)
    saved = SavedCaptioner(
        build(architecture), tokenizer, transform, settings.generation, architecture
    )
    device = torch.device("cpu")
    return Stepper(
        begin(saved, settings, device), settings, Schedule(settings, 10**4), device, cached=False
    )


def batch(number: int, generator: torch.Generator) -> Batch:
    """Random pictures and captions of 13 +- 4 tokens, each picture's longest first."""
    lengths = (13 + 4 * torch.randn(PICTURES, CAPTIONS, generator=generator)).round().int()
    lengths = lengths.clamp(4, LONGEST).sort(1, descending=True).values
    real = torch.arange(int(lengths.max())) < lengths[..., None]
    words = int(real[..., 1:].sum())
    return Batch(
        number,
        list(range(PICTURES)),
        [str(place) for place in range(PICTURES)],
        torch.randint(256, (PICTURES, 3, 224, 224), dtype=torch.uint8, generator=generator),
        torch.randint(4, VOCABULARY, real.shape, generator=generator),
        real,
        words,
        PICTURES * CAPTIONS,
        PICTURES,
    )


def resident() -> int:
    """MB of this process in memory."""
    fields = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) // 1024


def train(multiple: int, keep: bool, steps: int, every: int) -> None:
    """Prints a line [step, pictures a second since the last one, MB] each `every` steps."""
    if keep:
        keep_freed_memory()
    asked.MULTIPLE = multiple
    ours, generator = stepper(), torch.Generator().manual_seed(0)
    ours.begin_epoch(0)
    began = time.monotonic()
    with deterministic(torch.device("cpu")):
        for step in range(1, steps + 1):
            ours(batch(step, generator), step)
            if step % every == 0:
                rate = every * PICTURES / (time.monotonic() - began)
                print(json.dumps([step, round(rate, 1), resident()]), flush=True)
                began = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=100)
    parser.add_argument("--row", type=int, nargs=2, help="multiple and 0 or 1: this one alone")
    given = parser.parse_args()
    if given.row:
        train(given.row[0], bool(given.row[1]), given.steps, given.every)
        return
    columns = range(given.every, given.steps + 1, given.every)
    print(f"| places asked for, memory | {' | '.join(f'step {step}' for step in columns)} |")
    print(f"|---|{'---:|' * len(columns)}", flush=True)
    for keep, multiple in itertools.product((1, 0), (64, 1)):
        command = [sys.executable, __file__, "--row", str(multiple), str(keep)]
        command += ["--steps", str(given.steps), "--every", str(given.every)]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = [json.loads(line) for line in out.splitlines()]
        places = "multiples of 64" if multiple == 64 else "as many as words"
        cells = [f"{rate:.1f} /s, {megabytes:,} MB" for _, rate, megabytes in found]
        memory = "kept" if keep else "glibc's way"
        print(f"| {places}, {memory} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
