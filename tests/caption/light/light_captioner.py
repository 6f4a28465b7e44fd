"""A captioner for captioning processes without torch, and ways for it to end its process."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import images
from pipeline.config_model import GenerationConfig
from pipeline.errors import ModelNotFoundError


@dataclass
class Said:
    text: str
    score: float
    candidates: tuple[tuple[str, float], ...]


@dataclass
class LightCaptioner:
    seconds: float = 0.0
    """A batch."""
    dies: str = ""
    """Of a picture whose caption this would be."""
    by: int = 11
    ref: str = "captioner/3"
    model_name: str = "captioner"
    model_version: str = "3"
    fingerprint: str = "feedfacefeedface"
    device: str = "cpu"
    dtype: str = "torch.float32"
    transform: images.Transform = field(default_factory=lambda: images.Transform(size=16))
    generation: GenerationConfig = field(default_factory=GenerationConfig)

    def caption_pixels(
        self, pixels: Any, beam: int | None = None, candidates: int = 1
    ) -> list[Said]:
        time.sleep(self.seconds)
        found = []
        for red, green, blue in np.asarray(pixels).mean((2, 3)).round().astype(int).tolist():
            text = f"a picture of red {red} green {green} blue {blue}"
            if text == self.dies:
                os.kill(os.getpid(), self.by)
            score = -(red + green + blue) / 765
            found.append(Said(text, score, tuple((text, score - n) for n in range(candidates))))
        return found


def captioner(**settings: Any) -> LightCaptioner:
    return LightCaptioner(**settings)


def with_deadly_decoder(
    mark: str, by: list[int], count: str = "", **settings: Any
) -> LightCaptioner:
    """Decoding a file that holds `mark` ends the process by a signal, or by `-by` as its exit code.

    By 0: decoding it does not end. With a file `count`, by one of them after the other.
    """
    load = images.load

    def deadly(data: bytes, *args: Any, **kwargs: Any) -> Any:
        if mark.encode() in data:
            deaths = 0
            if count:
                with open(count, "a") as file:
                    file.write("x")
                    deaths = file.tell() - 1
            now = by[deaths % len(by)]
            if now < 0:
                os._exit(-now)
            os.kill(os.getpid(), now)
            time.sleep(60)
        return load(data, *args, **kwargs)

    images.load = deadly
    return LightCaptioner(**settings)


def that_cannot_be_loaded() -> LightCaptioner:
    raise ModelNotFoundError("no such model: captioner/9")


def with_a_bug() -> LightCaptioner:
    raise ZeroDivisionError("a bug")


def that_dies_at_once() -> LightCaptioner:
    os._exit(3)


def that_notes_its_process(path: str, **settings: Any) -> LightCaptioner:
    with open(path, "a") as file:
        file.write(f"{os.getpid()}\n")
    return LightCaptioner(**settings)


def once_killed(path: str, by: int = 9, **settings: Any) -> LightCaptioner:
    """The first captioner ends its process in its second batch; those that follow do not."""
    first = not Path(path).exists()
    Path(path).touch()
    captioner, batches = LightCaptioner(**settings), 0
    inner = captioner.caption_pixels

    def caption_pixels(*args: Any, **kwargs: Any) -> Any:
        nonlocal batches
        batches += 1
        if first and batches == 2:
            os.kill(os.getpid(), by)
        return inner(*args, **kwargs)

    captioner.caption_pixels = caption_pixels  # type: ignore[method-assign]
    return captioner


def that_meets_others(path: str, workers: int, **settings: Any) -> LightCaptioner:
    """Captions nothing until so many processes are about to caption something."""
    captioner = LightCaptioner(**settings)
    inner, met = captioner.caption_pixels, Path(path)

    def caption_pixels(*args: Any, **kwargs: Any) -> Any:
        (met / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(met.iterdir())) < workers:
            assert time.monotonic() < deadline, "the others do not come"
            time.sleep(0.01)
        return inner(*args, **kwargs)

    captioner.caption_pixels = caption_pixels  # type: ignore[method-assign]
    return captioner


def that_only_the_first_loads(path: str, others: int) -> LightCaptioner:
    """Captions nothing until so many other processes have tried, and ended."""
    noted = Path(path)
    with noted.open("a") as file:
        file.write("x")
        first = file.tell() == 1
    if not first:
        os._exit(3)
    captioner = LightCaptioner(seconds=0.1)
    inner = captioner.caption_pixels

    def caption_pixels(*args: Any, **kwargs: Any) -> Any:
        deadline = time.monotonic() + 60
        while noted.stat().st_size <= others:
            assert time.monotonic() < deadline, "the others do not come"
            time.sleep(0.01)
        return inner(*args, **kwargs)

    captioner.caption_pixels = caption_pixels  # type: ignore[method-assign]
    return captioner
