"""The stages of bulk captioning, each alone: what they cost a picture. For caption_rate.py."""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline import images
from pipeline.caption.schema import Row, part_bytes, part_table
from pipeline.caption.stages import Stages
from pipeline.predict import Predictor

BEAM = 3


class Alone(NamedTuple):
    """Seconds a picture."""

    read: float
    decode: float
    encode: float
    search: float
    write: float

    @property
    def reading(self) -> float:
        return self.read + self.decode

    @property
    def model(self) -> float:
        return self.encode + self.search


def measure(predictor: Predictor, files: list[Path], batch: int, rounds: int) -> Alone:
    """Each stage by itself, on one core with one thread; the model's on its device. Medians."""
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        return _measure(predictor, files, batch, rounds)
    finally:
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, cores)


def span_cost(spans: int = 20_000) -> float:
    """Seconds of a core that it takes to note when a stage was busy, beyond counting its seconds."""

    def took(stages: Stages) -> float:
        began = time.process_time()
        for _ in range(spans):
            with stages.busy("decode"):
                pass
        return (time.process_time() - began) / spans

    recording = Stages()
    recording.record()
    return max(min(took(recording) for _ in range(3)) - min(took(Stages()) for _ in range(3)), 0.0)


def _measure(predictor: Predictor, files: list[Path], batch: int, rounds: int) -> Alone:
    transform = predictor.transform
    data = [path.read_bytes() for path in files]
    pixels = [torch.from_numpy(images.load(each, transform)) for each in data]
    batches = [torch.stack(pixels[n : n + batch]) for n in range(0, len(pixels) - batch + 1, batch)]
    captioned = len(batches) * batch
    memories = [predictor.encode(each) for each in batches]
    found = predictor.caption_memory(memories[0], beam=BEAM)
    rows = [_row(n, found[n % len(found)].text) for n in range(len(files))]

    def decode() -> None:
        for each in data:
            images.probe(each)
            images.load(each, transform)

    def search() -> None:
        for memory in memories:
            predictor.caption_memory(memory, beam=BEAM)

    stages: dict[str, tuple[Callable[[], object], int]] = {
        "read": (lambda: [_read(path) for path in files], len(files)),
        "decode": (decode, len(files)),
        "encode": (lambda: [_encode(predictor, each) for each in batches], captioned),
        "search": (search, captioned),
        "write": (lambda: part_bytes(part_table(rows)), len(rows)),
    }
    taken: dict[str, list[float]] = {name: [] for name in stages}
    for turn in range(rounds + 1):
        for name, (run, count) in stages.items():
            began = time.perf_counter()
            run()
            if turn:  # the first warms up
                taken[name].append((time.perf_counter() - began) / count)
    return Alone(*(statistics.median(taken[name]) for name in Alone._fields))


def _read(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _encode(predictor: Predictor, pixels: Tensor) -> None:
    predictor.encode(pixels)
    if predictor.device.type == "cuda":
        torch.cuda.synchronize()


def _row(number: int, text: str) -> Row:
    return Row(
        source="photos", member=f"{number:012d}.jpg", occurrence=0, sha256=f"{number:064x}", bytes=1,
        width=640, height=480, caption=text, score=-0.5, candidates=[{"caption": text, "score": -0.5}],
        status="captioned", error_code=None, error=None, model_name="model", model_version="1",
        recipe="0" * 16, meta=None,
    )  # fmt: skip
