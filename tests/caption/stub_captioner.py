"""A captioner without a model: the caption names the mean colour, so equal pixels caption equally."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from torch import Tensor

from pipeline.config_model import GenerationConfig
from pipeline.decode import Caption
from pipeline.images import Transform


@dataclass
class StubCaptioner:
    ref: str = "captioner/3"
    model_name: str = "captioner"
    model_version: str = "3"
    fingerprint: str = "feedfacefeedface"
    device: str = "cpu"
    dtype: str = "torch.float32"
    transform: Transform = field(default_factory=lambda: Transform(size=16))
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    seconds: float = 0.0
    """A batch."""
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def caption_pixels(
        self, pixels: Tensor, beam: int | None = None, candidates: int = 1
    ) -> list[Caption]:
        self.shapes.append(tuple(pixels.shape))
        time.sleep(self.seconds)
        found = []
        for red, green, blue in pixels.float().mean((2, 3)).round().int().tolist():
            text = f"a picture of red {red} green {green} blue {blue}"
            score = -(red + green + blue) / 765
            found.append(Caption(text, score, tuple((text, score - n) for n in range(candidates))))
        return found
