"""Captions trained a second beside transformers' Trainer, on the same weights and captions.

    python tests/benchmarks/train_speed.py                     # ViT-S/16 + 4 GPT layers, float32
    python tests/benchmarks/train_speed.py --device cuda       # ViT-B/16 + 6 GPT layers, bf16
    python tests/benchmarks/train_speed.py --pictures 4 --steps 2 --rounds 1      # a quick look

Both train all weights of one model with AdamW, batches of the same captions in the same order, no
dropout, no evaluation and no saving, so that their losses are equal and are printed. Ours reads,
decodes and normalises pictures from shards while it trains, each once for its five captions. The
peer is used as it usually is, a row a caption; its pictures lie decoded on the device. Rounds
alternate, each after a warm-up that is not counted; medians. Also printed: our wait for data, the
time from the start of a fresh process to the end of its first step, and on a GPU the share of the
measured bfloat16 matrix rate. Without transformers and accelerate: ours alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers_trainer
from captioning_pair import VOCABULARY, decoder_operations, encoder_operations
from first_step import REACHED
from photos import make_pictures, make_shards
from search_speed import alternating, machine, ratio
from transformers_trainer import Rows, Training
from transformers_twin import Twin

from pipeline import images
from pipeline.config import Config, TrainConfig
from pipeline.decode import Limits
from pipeline.images import Transform
from pipeline.models.build import build
from pipeline.models.saved import SavedCaptioner
from pipeline.shards import ShardReader
from pipeline.text import Tokenizer
from pipeline.train.build import begin
from pipeline.train.captions import EncodedCaptions
from pipeline.train.deterministic import deterministic
from pipeline.train.loader import Batch, Loader
from pipeline.train.schedule import Schedule
from pipeline.train.step import Stepper

HELD_OUT = 8
DEFAULTS = {
    "cpu": {"pictures": 8, "steps": 4, "warmup": 1, "width": 384, "heads": 6, "layers": 4},
    "cuda": {"pictures": 128, "steps": 50, "warmup": 10, "width": 768, "heads": 12, "layers": 6},
}
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16"}


class Round(NamedTuple):
    """Steps after the warm-up; the losses are of all steps."""

    seconds: float
    waited: float
    """For data, of the seconds."""
    losses: list[float]


def training(config: Config, options: argparse.Namespace) -> Config:
    """The settings with what is trained and how."""
    train = {
        "encoder": {
            "name": "vit",
            "train": "all",
            "depth": options.depth,
            "width": options.width,
            "heads": options.heads,
        },
        "decoder": {
            "kind": "gpt",
            "layers": options.layers,
            "width": options.width,
            "heads": options.heads,
            "dropout": 0.0,
        },
        "tokenizer": {"kind": "word", "min_count": 1},
        "batch_size": options.pictures,
        "learning_rate": 1e-4,
        "encoder_learning_rate": 1e-4,
        "warmup_steps": 0,
        "schedule": {"kind": "constant"},
        "clip_norm": 1.0,
        "precision": options.precision,
        "compile": options.compile,
        "workers": options.workers,
    }
    tree = {"device": options.device, "threads": options.threads, "train": train}
    return Config.model_validate({**config.model_dump(mode="json"), **tree})


class Ours:
    """The train stage's loader and stepper, without what stands around them."""

    def __init__(self, reader: ShardReader, settings: TrainConfig, options: argparse.Namespace):
        self.device, self.warmup = torch.device(options.device), options.warmup
        captions = reader.captions()
        tokenizer = Tokenizer.train([text for group in captions for text in group])
        assert len(tokenizer) <= VOCABULARY
        self.limits = Limits(tokenizer.bos, tokenizer.eos, tokenizer.pad)
        transform = Transform()
        self.architecture: dict[str, Any] = {
            "encoder": settings.encoder.model_dump(mode="json", exclude_none=True),
            "decoder": {
                **settings.decoder.model_dump(mode="json", exclude={"weights"}),
                "pad": tokenizer.pad,
                "bridge": "plain",  # transformers has no other
            },
            "vocabulary": VOCABULARY,
            "size": transform.size,
        }
        torch.manual_seed(0)
        model = build(self.architecture)
        self.saved = SavedCaptioner(
            model, tokenizer, transform, settings.generation, self.architecture
        )
        encoded = EncodedCaptions(captions, tokenizer, settings.max_caption_tokens)
        self.loader = Loader(reader, encoded, transform, settings)
        self.tokens = statistics.mean(encoded.length(row) - 1 for row in range(encoded.first[-1]))

    def begin(self, settings: TrainConfig) -> None:
        """The model to the device, with an optimiser."""
        self.saved.model.to(self.device)
        state = begin(self.saved, settings, self.device)
        schedule = Schedule(settings, self.loader.steps)
        self.stepper = Stepper(state, settings, schedule, self.device, cached=False)

    def batches(self, epoch: int) -> list[Batch]:
        return list(self.loader.batches(epoch))

    def run(self, epoch: int) -> Round:
        started = waited = 0.0
        losses = []
        with deterministic(self.device):
            self.stepper.begin_epoch(epoch)
            for batch in self.loader.batches(epoch):
                losses.append(self.stepper(batch, epoch * self.loader.steps + batch.number).loss)
                if batch.number == self.warmup - 1:
                    started, waited = self._now(), self.loader.waited
            return Round(self._now() - started, self.loader.waited - waited, losses)

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def compare(ours: Ours, settings: TrainConfig, options: argparse.Namespace) -> list[Round]:
    """Rounds of ours, beside the Trainer's where it is installed."""
    if lacking := transformers_trainer.missing():
        print(f"{lacking} not installed: ours alone")
        ours.begin(settings)
        return [ours.run(epoch) for epoch in range(options.rounds)]
    twin = Twin(ours.saved.model, ours.architecture, ours.limits)
    theirs = Training(twin, settings, ours.device, options.warmup)
    ours.begin(settings)
    rounds, peers = [], []
    for epoch in range(options.rounds):
        rows = Rows(
            ours.batches(epoch),
            lambda pixels: images.normalise(pixels, ours.saved.transform),
            ours.device,
        )
        rounds.append(ours.run(epoch))
        peers.append(theirs.run(rows, options.steps))
    trained = options.steps * options.pictures * settings.captions_per_image
    seconds = [found for found, _ in peers]
    for place, name in ((0, "first"), (-1, "last")):
        mine, other = rounds[0].losses[place], peers[0][1][place]
        print(
            f"loss of the {name} of {len(rounds[0].losses)} steps: ours {mine:.5f}, "
            f"Trainer {other:.5f}, apart {abs(mine - other):.1e}"
        )
    print(
        f"Trainer: {trained / statistics.median(seconds):,.1f} captions/s; "
        f"ours / Trainer {ratio(seconds, [found.seconds for found in rounds]):.2f} (target 2)"
    )
    return rounds


def report(ours: Ours, rounds: list[Round], options: argparse.Namespace) -> None:
    pictures = options.steps * options.pictures
    rate = pictures / statistics.median(found.seconds for found in rounds)
    captions = ours.loader.settings.captions_per_image
    waiting = statistics.median(found.waited / found.seconds for found in rounds)
    step = statistics.median(found.seconds for found in rounds) / options.steps
    print(
        f"ours: {rate * captions:,.1f} captions/s, {rate:,.1f} pictures/s, {1000 * step:,.0f} ms a "
        f"step; waiting for data {100 * waiting:.1f} % of it (target 5)"
    )
    # Backwards is twice the work of forwards.
    each = 3 * (
        encoder_operations(ours.architecture)
        + decoder_operations(ours.architecture, captions, ours.tokens)
    )
    done = f"{rate * each / 1e12:.3g} TFLOP/s, {each / 1e9:.0f} GFLOP a picture"
    if options.device == "cuda":
        peak = matrix_rate(options)
        share = f"{100 * rate * each / peak:.0f} % of the matrix rate {peak / 1e12:.0f} (target 45)"
        done = f"{done}; {share}"
    print(f"ours: {done}")


def matrix_rate(options: argparse.Namespace) -> float:
    """Operations a second of torch's product of bfloat16 matrices."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    [product] = alternating([lambda: a @ b], options)
    return 2 * 8192.0**3 / min(product)


def time_to_first_step(config: Config, scratch: Path, rounds: int) -> float:
    """Seconds from starting `train` as a process to the end of its first step, median."""
    settings = scratch / "config.yaml"
    settings.write_text(config.to_yaml())
    script = Path(__file__).with_name("first_step.py")
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        child = subprocess.run(
            [sys.executable, str(script), str(settings), str(scratch / "work")],
            capture_output=True,
            check=False,  # it leaves in the middle; what it said counts
            text=True,
        )
        taken.append(time.perf_counter() - started)
        if REACHED not in child.stdout:
            raise SystemExit(f"the first step was not reached:\n{child.stderr}")
    return statistics.median(taken)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=sorted(PRECISIONS))
    parser.add_argument("--compile", action="store_true", help="torch.compile, on both sides")
    parser.add_argument("--pictures", type=int, help="a step, with five captions each")
    parser.add_argument("--steps", type=int, help="timed, a round")
    parser.add_argument("--warmup", type=int, help="steps before them; 1 or more")
    parser.add_argument("--depth", type=int, default=12, help="blocks of the ViT")
    parser.add_argument("--layers", type=int, help="blocks of the GPT")
    parser.add_argument("--width", type=int, help="of both")
    parser.add_argument("--heads", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=cores)
    parser.add_argument("--workers", type=int, default=cores, help="threads that decode")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "no CUDA device here: this part needs one\n")
    for name, value in DEFAULTS[options.device].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.warmup < 1:
        parser.error(f"--warmup = {options.warmup}: at least 1, after which the clock starts")
    options.precision = options.precision or ("bf16" if options.device == "cuda" else "fp32")
    options.dtype = PRECISIONS[options.precision]
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    print(machine(options))
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        steps = options.warmup + options.steps
        make_pictures(scratch / "images", steps * options.pictures + HELD_OUT)
        sources, shards = make_shards(scratch, sorted((scratch / "images").iterdir()), HELD_OUT)
        config = training(sources, options)
        ours = Ours(ShardReader(shards, "train"), config.train, options)
        print(
            f"ViT of {options.depth} blocks + GPT of {options.layers}, width {options.width}, "
            f"vocabulary {VOCABULARY:,}; {options.pictures} pictures x "
            f"{config.train.captions_per_image} captions of {ours.tokens:.1f} tokens a step"
        )
        report(ours, compare(ours, config.train, options), options)
        del ours
        first = time_to_first_step(config, scratch, options.rounds)
        print(f"a fresh process takes its first step after {first:.1f} s (target 20)")


if __name__ == "__main__":
    main()
