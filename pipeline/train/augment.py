"""Changes to training pictures that leave captions true, keyed by (seed, epoch, sample key).

What happens to a picture depends on nothing else: not on the rank, the worker or what ran before.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline import storage
from pipeline.config_recipe import AugmentConfig
from pipeline.sides import Sides


class Augmentation:
    """The augmentation of `settings`.

    Where features are cached, a picture is shown in one of few versions, whose features are kept:
    number 0 is the picture itself, then come its mirror image (`flip`) and the changed ones.
    """

    def __init__(self, settings: AugmentConfig, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self._sides = Sides(settings.flip_words)

    @property
    def changes_pixels(self) -> bool:
        """Whether it does more than mirror."""
        return bool(self.settings.crop or self.settings.colour)

    def _numbers(self, epoch: int, key: str, what: str) -> random.Random:
        return random.Random(f"{self.seed}/{epoch}/{key}/{what}")  # noqa: S311

    def names_a_side(self, captions: list[str]) -> bool:
        """Whether a mirrored picture would make one of its captions false."""
        return any(map(self._sides.are_named, captions))

    def sided(self, captions: Sequence[list[str]]) -> list[bool]:
        """`names_a_side` of each picture's captions; all False where nothing is mirrored."""
        return [self.settings.flip and self.names_a_side(group) for group in captions]

    @property
    def versions(self) -> list[str]:
        """A name for each version, for files; what it holds follows from the name, data and seed."""
        mirrored = ["-mirrored"] if self.settings.flip else []
        settings = self.settings.model_dump(mode="json", exclude={"versions"})
        what = storage.fingerprint({"seed": self.seed, **settings})
        changed = [f"-{what[:12]}-{n}" for n in range(1, self.settings.versions + 1)]
        return ["", *mirrored, *changed]

    def version(self, number: int, pixels: Tensor, key: str, sided: bool) -> Tensor:
        """Version `number` of a uint8 picture [3, H, W]; `sided`: it must not be mirrored."""
        first = len(self.versions) - self.settings.versions
        if number < first:
            return pixels.flip(-1) if number else pixels
        # Epochs count from 0, so that a version's numbers are no epoch's.
        epoch = first - number - 1
        return self(pixels, epoch, key, self.mirrors(epoch, key, sided))

    def choose(self, epoch: int, key: str, sided: bool) -> int:
        """The version that an epoch shows; each changed one as often as the picture itself."""
        kept = self.settings.versions
        if kept and (chosen := self._numbers(epoch, key, "version").randint(0, kept)):
            return len(self.versions) - kept - 1 + chosen
        return int(self.mirrors(epoch, key, sided))

    def mirrors(self, epoch: int, key: str, sided: bool) -> bool:
        """Whether this epoch shows the picture mirrored; `sided`: it must not."""
        if sided or not self.settings.flip:
            return False
        return self._numbers(epoch, key, "flip").random() < 0.5

    def __call__(self, pixels: Tensor, epoch: int, key: str, mirrored: bool) -> Tensor:
        """A changed uint8 picture [3, H, W] of the same size."""
        if mirrored:
            pixels = pixels.flip(-1)
        if not self.changes_pixels:
            return pixels
        numbers = self._numbers(epoch, key, "pixels")
        values = self._cropped(pixels, numbers).float()
        for change in (_brightness, _contrast, _saturation):
            factor = 1 + numbers.uniform(-self.settings.colour, self.settings.colour)
            values = change(values, factor).clamp_(0, 255)
        return values.round_().to(torch.uint8)

    def _cropped(self, pixels: Tensor, numbers: random.Random) -> Tensor:
        """A rectangle of most of the area, its sides' ratio within 4/5 and 5/4, back at full size."""
        height, width = pixels.shape[-2:]
        area = 1 - numbers.uniform(0, self.settings.crop)
        ratio = numbers.uniform(0.8, 1.25) ** 0.5 if self.settings.crop else 1.0
        rows = max(1, min(height, round(height * area**0.5 * ratio)))
        columns = max(1, min(width, round(width * area**0.5 / ratio)))
        top, left = numbers.randint(0, height - rows), numbers.randint(0, width - columns)
        if (rows, columns) == (height, width):
            return pixels
        part = pixels[None, :, top : top + rows, left : left + columns].float()
        size = (height, width)
        return F.interpolate(part, size, mode="bilinear", align_corners=False, antialias=True)[0]


def _brightness(values: Tensor, factor: float) -> Tensor:
    return values * factor


def _contrast(values: Tensor, factor: float) -> Tensor:
    return (values - values.mean()) * factor + values.mean()


def _saturation(values: Tensor, factor: float) -> Tensor:
    # ITU-R BT.601 luma.
    grey = (values * values.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    return (values - grey) * factor + grey
