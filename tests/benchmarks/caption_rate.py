"""Bulk captioning beside its stages alone, beside a Hugging Face loop, and on one core and several.

    python tests/benchmarks/caption_rate.py                       # CPU: ViT-S/16 + 6 layers, COCO's size
    python tests/benchmarks/caption_rate.py --captioner DIR --images DIR     # trained weights, photos
    python tests/benchmarks/caption_rate.py --device cuda         # ViT-B/16 + 6 layers, bf16, 224 pixels
    python tests/benchmarks/caption_rate.py --smoke [--device cuda]          # a look whether it runs

Ours is a new process a round, that reads, decodes, captions (beam 3) and commits a table; its rate
counts from when a third of the pictures is in the table, so that all processes have started, as the
loop's have. Printed too: the rate from the command to its end, and the seconds to the first rows.
Beside it:
  stages:  each stage alone on one core with one thread. On a CPU the cores' rate is what the sum of
           their seconds allows; on a GPU the smaller of what its cores decode and what it captions;
  loop:    transformers' VisionEncoderDecoderModel with the same weights: a DataLoader with as many
           processes as cores (Pillow, torchvision), `generate`, in this process;
  one:     ours on one core alone, beside ours on two;
  ray:     ours by the engine of that name, where Ray is installed.
Rounds alternate, figures are medians, ratios are medians of each round's ratio. Every JPEG has bytes
of its own; with --images they are the folder's photos, enlarged to COCO's size where they are smaller.
Without a captioner: random weights and 20 forced tokens. The loop needs the dev extra; without it the
rest is measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from caption_command import Ran, caption
from caption_stages import BEAM, Alone, measure, span_cost
from photos import COCO, make_pictures
from PIL import Image
from search_speed import machine, ratio

from pipeline.config import CaptionConfig
from pipeline.config_model import GenerationConfig
from pipeline.images import Transform
from pipeline.models.build import build
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import Predictor, load_directory
from pipeline.text import Tokenizer

VOCABULARY = 10_000
TOKENS = 20
FIRST_ROWS = 15.0
"""Seconds to the first committed rows, at most."""


class Preset(NamedTuple):
    """Sizes, where nobody gives others."""

    images: int
    """A round."""
    alone: int
    """Pictures of the stages alone."""
    loop: int
    """Pictures of a round of the loop."""
    side: tuple[int, int]
    batch: int
    unit: int
    width: int
    depth: int
    heads: int
    layers: int
    rounds: int


PRESETS = {
    "cpu": Preset(960, 48, 192, COCO, 16, 32, 384, 12, 6, 6, 3),
    "cuda": Preset(60_000, 1024, 4096, (224, 224), 256, 512, 768, 12, 12, 6, 3),
    "smoke": Preset(48, 8, 16, (96, 72), 8, 8, 48, 2, 3, 1, 1),
}


def save_random(directory: Path, preset: Preset) -> Path:
    """A captioner with random weights that writes `TOKENS` tokens."""
    torch.manual_seed(0)
    tokenizer = Tokenizer.train([" ".join(f"w{n}" for n in range(VOCABULARY - 4))])
    architecture: dict[str, Any] = {
        "encoder": {
            "name": "vit", "train": "none", "patch": 16, "depth": preset.depth,
            "width": preset.width, "heads": preset.heads, "mlp": 4 * preset.width,
        },
        "decoder": {
            "kind": "gpt", "width": preset.width, "layers": preset.layers, "heads": preset.heads,
            "positions": 128, "bridge": "plain",
        },
        "vocabulary": len(tokenizer),
        "size": 224,
    }  # fmt: skip
    settings = GenerationConfig(beam=BEAM, max_len=TOKENS + 1, min_len=TOKENS)
    model = build(architecture)
    SavedCaptioner(model, tokenizer, Transform(size=224), settings, architecture).save(directory)
    return directory


def copy_photos(source: Path, folder: Path, count: int) -> None:
    """`count` JPEGs of a folder's photos, at COCO's size or larger, no two of the same bytes."""
    photos = sorted(p for p in source.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    folder.mkdir()
    encoded: list[bytes] = []
    for path in photos[:count]:
        with Image.open(path) as photo:
            whole = photo.convert("RGB")
        if max(whole.size) < max(COCO):
            whole = whole.resize(COCO, Image.Resampling.BICUBIC)
        file = io.BytesIO()
        whole.save(file, "JPEG", quality=90)
        encoded.append(file.getvalue())
    for number in range(count):
        data = encoded[number % len(encoded)]
        comment = b"\xff\xfe\x00\x0a" + f"{number:08d}".encode()
        (folder / f"{number:012d}.jpg").write_bytes(data[:2] + comment + data[2:])


class Bench:
    """The contenders and what they took."""

    def __init__(self, options: argparse.Namespace, preset: Preset, scratch: Path) -> None:
        self.options, self.preset, self.scratch = options, preset, scratch
        self.folder = scratch / "photos"
        if options.images is not None:
            copy_photos(options.images, self.folder, preset.images)
        else:
            make_pictures(self.folder, preset.images, preset.side)
        self.files = sorted(self.folder.iterdir())
        directory = options.captioner or save_random(scratch / "captioner", preset)
        self.predictor: Predictor = load_directory(
            directory, device=options.device, dtype=options.dtype, ref="bench", name="bench"
        )
        self.settings = [
            f"caption.model={directory.resolve()}",
            f"caption.batch_size={preset.batch}",
            f"caption.unit_size={preset.unit}",
            f"caption.beam={BEAM}",
            f"caption.dtype={options.dtype}",
            f"device={options.device}",
        ]
        self.cores = sorted(os.sched_getaffinity(0))

    def ours(
        self, workers: int | str = "auto", cores: list[int] | None = None, engine: str = ""
    ) -> Ran:
        settings = [*self.settings, f"caption.workers={workers}"]
        settings += [f"caption.engine={engine}"] if engine else []
        return caption(self.scratch, self.folder, settings, cores)

    def stages(self) -> Alone:
        files = self.files[: self.preset.alone]
        return measure(self.predictor, files, self.preset.batch, rounds=3)

    def bound(self, alone: Alone) -> float:
        """Pictures a second that the stages alone allow."""
        cores = len(self.cores)
        if self.options.device == "cuda":
            return min(cores / alone.reading, 1 / alone.model)
        return cores / sum(alone)

    def loop(self) -> Callable[[], float] | None:
        """A round of the loop: its rate."""
        if importlib.util.find_spec("transformers") is None:
            print("no transformers here: without the loop")
            return None
        from caption_loop import Loop, is_possible

        if not is_possible(self.predictor):
            print("transformers has no model of this architecture: without the loop")
            return None
        files = self.files[: self.preset.loop]
        loop = Loop(self.predictor, files, self.preset.batch, len(self.cores), BEAM)

        def run() -> float:
            began = time.perf_counter()
            loop.caption()
            return len(files) / (time.perf_counter() - began)

        run()  # starts the processes that load
        return run


def compare(bench: Bench) -> None:
    """All of it, in turns."""
    options, loop = bench.options, bench.loop()
    rates: dict[str, list[float]] = {}
    firsts, wholes = [], []
    alone: list[Alone] = []
    runs: dict[str, Callable[[], Ran]] = {
        f"workers={workers}": lambda workers=workers: bench.ours(workers)  # type: ignore[misc]
        for workers in options.workers
    }
    if options.device == "cpu" and len(bench.cores) > 1:
        runs["one core"] = lambda: bench.ours(1, bench.cores[:1])
        runs["two cores"] = lambda: bench.ours(2, bench.cores[:2])
    if importlib.util.find_spec("ray") is not None and "engine" in CaptionConfig.model_fields:
        runs["ray"] = lambda: bench.ours(options.workers[0], engine="ray")
    parts: dict[str, dict[str, bytes]] = {}
    for _ in range(bench.preset.rounds):
        for name, run in runs.items():
            ran = run()
            rates.setdefault(name, []).append(ran.steady)
            parts.setdefault(name, ran.parts)
            if name == f"workers={options.workers[0]}":
                firsts.append(ran.profile.first_row_seconds or 0.0)
                wholes.append(ran.whole)
        if loop is not None:
            rates.setdefault("loop", []).append(loop())
        alone.append(bench.stages())
        rates.setdefault("stages alone", []).append(bench.bound(alone[-1]))
    for name, found in rates.items():
        print(f"  {name:14}{statistics.median(found):10,.1f} pictures/s")
    tell_stages(alone, bench)
    # Of several numbers of workers, the best.
    ours = max((f"workers={w}" for w in options.workers), key=lambda n: statistics.median(rates[n]))
    print(f"  {ours} / stages alone  {ratio(rates[ours], rates['stages alone']):.2f} (target 0.90)")
    if loop is not None:
        target = 5 if options.device == "cuda" else 1.4
        print(f"  {ours} / loop  {ratio(rates[ours], rates['loop']):.2f} (target {target})")
    if "one core" in runs:
        print(
            f"  two cores / one core  {ratio(rates['two cores'], rates['one core']):.2f} "
            "(target 1.8)"
        )
    if "ray" in runs:
        local = rates[f"workers={options.workers[0]}"]
        print(f"  ray / local  {ratio(rates['ray'], local):.2f} (target 0.90)")
    print(f"  rows {'equal' if len(set(map(rows_of, parts.values()))) == 1 else 'DIFFER'}")
    if options.device == "cuda":
        print(f"  pictures/s {statistics.median(rates[ours]):,.0f} (target 5,000)")
    print(
        f"  first rows after {statistics.median(firsts):.1f} s (target {FIRST_ROWS:g}); "
        f"from the command to its end {statistics.median(wholes):,.1f} pictures/s"
    )


def rows_of(parts: dict[str, bytes]) -> tuple[tuple[str, bytes], ...]:
    return tuple(sorted(parts.items()))


def tell_stages(alone: list[Alone], bench: Bench) -> None:
    cells = [
        f"{name} {1000 * statistics.median(getattr(each, name) for each in alone):.2f}"
        for name in Alone._fields
    ]
    print(f"  milliseconds a picture, alone on one core: {', '.join(cells)}")
    # Each picture is read and decoded; a batch has about six spans more.
    spans = 2 + 6 / bench.preset.batch
    picture = statistics.median(sum(each) for each in alone)
    print(f"  recording for a profile costs {spans * span_cost() / picture:.2%} of that")
    if bench.options.device == "cuda":
        decode = statistics.median(len(bench.cores) / each.reading for each in alone)
        model = statistics.median(1 / each.model for each in alone)
        print(
            f"  {len(bench.cores)} cores read and decode {decode:,.0f}/s, the model {model:,.0f}/s"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"))
    parser.add_argument("--captioner", type=Path, help="a captioner's directory")
    parser.add_argument("--images", type=Path, help="a folder of photos")
    parser.add_argument("--count", type=int, help="pictures a round")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--workers", nargs="+", help="numbers of processes; auto")
    parser.add_argument("--smoke", action="store_true", help="tiny: does it run?")
    options = parser.parse_args()
    on_gpu = options.device == "cuda"
    if on_gpu and not torch.cuda.is_available():
        parser.exit(1, "no CUDA device here: this part needs one\n")
    options.dtype = options.dtype or ("bfloat16" if on_gpu else "float32")
    options.workers = options.workers or (["1", "2", "4"] if on_gpu else ["auto"])
    options.threads = len(os.sched_getaffinity(0))
    preset = PRESETS["smoke" if options.smoke else options.device]
    preset = preset._replace(
        images=options.count or preset.images, rounds=options.rounds or preset.rounds
    )
    print(machine(options))
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(options, preset, Path(scratch))
        size = statistics.mean(path.stat().st_size for path in bench.files[:100]) / 1000
        print(
            f"{len(bench.files):,} JPEGs of {size:,.0f} kB, batches of {preset.batch}, beam {BEAM}"
        )
        compare(bench)


if __name__ == "__main__":
    main()
