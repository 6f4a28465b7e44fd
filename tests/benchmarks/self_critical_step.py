"""What a self-critical step is made of: drawing, rewards, and the gradient's two passes.

    python tests/benchmarks/self_critical_step.py [--decoder gpt lstm] [--pictures 50] [--samples 5]

Made-up captions of COCO's length for 6,000 pictures, cached features of 7 x 7 x 1280 (MobileNetV2
at 224 pixels), random weights, 12 drawn tokens a caption; GPT of 3 layers of width 384, LSTM of
width 512. The peer is drawing without a cache: each token from the whole caption so far, a caption
its own row, as a training loop without a search draws. Rounds alternate; medians.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from metric_speed import made_up
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.config_model import GenerationConfig
from pipeline.images import Transform
from pipeline.models.build import build
from pipeline.models.captioner import Memory
from pipeline.models.saved import SavedCaptioner
from pipeline.text import Tokenizer
from pipeline.train.optimiser import build_optimiser
from pipeline.train.self_critical import SelfCritical

TOKENS = 12
DECODERS: dict[str, dict[str, Any]] = {
    "gpt": {"kind": "gpt", "layers": 3, "width": 384, "heads": 6},
    "lstm": {"kind": "lstm", "width": 512, "embedding": 512, "attention": 256},
}


def prepare(decoder: str, captions: list[list[str]], samples: int) -> SelfCritical:
    settings = TrainConfig.model_validate(
        {
            "decoder": DECODERS[decoder],
            "attention_penalty": 0.0,
            "generation": GenerationConfig(max_len=TOKENS, min_len=TOKENS - 1),
            # Random weights write nonsense: the guard would be right to stop.
            "self_critical": {"samples": samples, "guard": {"window": 1_000_000}},
        }
    )
    tokenizer = Tokenizer.train([text for group in captions for text in group])
    torch.manual_seed(0)
    architecture = {
        "encoder": {"name": "mobilenet_v2", "train": "none"},
        "decoder": {**settings.decoder.model_dump(exclude={"weights"}), "pad": tokenizer.pad},
        "vocabulary": len(tokenizer),
        "size": 224,
    }
    saved = SavedCaptioner(
        build(architecture), tokenizer, Transform(), settings.generation, architecture
    )
    with tempfile.TemporaryDirectory() as folder:
        return SelfCritical.of(saved, captions, settings, Path(folder) / "table.parquet")


@torch.inference_mode()
def draw_without_cache(phase: SelfCritical, memory: Memory) -> Tensor:
    """Captions [R, T] drawn a token at a time, each from its whole prefix and a memory of its own."""
    samples = phase.settings.samples
    rows = Memory(memory.tokens_BSD.repeat_interleave(samples, 0))
    said = torch.full((len(rows.tokens_BSD), 1, 1), phase.limits.bos)
    for _ in range(TOKENS):
        last = torch.zeros(said.shape, dtype=torch.bool)
        last[..., -1] = True
        logits = phase.model.teach(rows, said, last).logits_MV
        token = logits.softmax(-1).multinomial(1)
        said = torch.cat([said, token[:, None]], -1)
    return said[:, 0, 1:]


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    outcome = action()
    return time.perf_counter() - started, outcome


def measure(decoder: str, captions: list[list[str]], options: argparse.Namespace) -> None:
    phase = prepare(decoder, captions, options.samples)
    optimiser = build_optimiser(phase.model, TrainConfig())
    features = torch.randn(options.pictures, 1280, 7, 7)
    shares: dict[str, list[float]] = {}
    for epoch in range(options.rounds + 1):
        rows = list(range(epoch * options.pictures, (epoch + 1) * options.pictures))
        optimiser.zero_grad(set_to_none=True)
        outcome = phase.step(features, rows, epoch)
        backward, _ = timed(outcome.loss.backward)
        update, _ = timed(optimiser.step)
        memory = Memory(phase.model.memory(features).tokens_BSD.detach())
        peer, _ = timed(lambda memory=memory: draw_without_cache(phase, memory))
        found = {
            "drawing": outcome.figures["draw_seconds"],
            "rewards": outcome.figures["reward_seconds"],
            "forward": outcome.figures["forward_seconds"],
            "backward": backward,
            "optimiser": update,
            "without a cache": peer,
        }
        if epoch:  # the first warms up
            for name, seconds in found.items():
                shares.setdefault(name, []).append(seconds)
    ratio = statistics.median(
        slow / fast for slow, fast in zip(shares["without a cache"], shares["drawing"], strict=True)
    )
    medians = {name: statistics.median(seconds) for name, seconds in shares.items()}
    peer = medians.pop("without a cache")
    total = sum(medians.values())
    print(f"{decoder}: {total * 1000:,.0f} ms a step, {options.pictures / total:,.0f} pictures/s")
    for name, seconds in medians.items():
        print(f"    {name:10} {seconds * 1000:8,.1f} ms  {seconds / total:5.1%}")
    print(f"    drawing without a cache: {peer * 1000:,.0f} ms, {ratio:.1f} times ours")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decoder", choices=sorted(DECODERS), nargs="+", default=sorted(DECODERS))
    parser.add_argument("--pictures", type=int, default=50)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{platform.machine()}, {options.threads} threads, torch {torch.__version__}; "
        f"{options.pictures} pictures x {options.samples} captions of {TOKENS} tokens"
    )
    captions = made_up(max(6000, (options.rounds + 1) * options.pictures))
    for decoder in options.decoder:
        measure(decoder, captions, options)


if __name__ == "__main__":
    main()
