"""Captioning a folder as a Hugging Face tutorial does it: a DataLoader and `generate`, same weights."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from transformers_twin import Twin

from pipeline.models.gpt import GPTDecoder
from pipeline.predict import Predictor


class Photos(Dataset[Tensor]):
    """Files, squashed to the model's size and normalised, as an image processor does it."""

    def __init__(
        self, files: list[Path], size: int, mean: tuple[float, ...], std: tuple[float, ...]
    ):
        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.Resize((size, size), transforms.InterpolationMode.BICUBIC),
                transforms.ToTensor(),
                transforms.Normalize(mean, std),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Tensor:
        with Image.open(self.files[place]) as picture:
            tensor: Tensor = self.transform(picture.convert("RGB"))
        return tensor


def is_possible(predictor: Predictor) -> bool:
    """Whether transformers has this architecture."""
    encoder = predictor.saved.architecture["encoder"]
    return encoder["name"] == "vit" and isinstance(predictor.model.decoder, GPTDecoder)


class Loop:
    """The whole of it; processes that load stay alive between rounds."""

    def __init__(
        self, predictor: Predictor, files: list[Path], batch: int, workers: int, beam: int
    ) -> None:
        transform, saved = predictor.transform, predictor.saved
        self.device, self.dtype, self.beam = predictor.device, predictor.dtype, beam
        self.tokenizer = saved.tokenizer
        # A loop of a tutorial bans no words.
        limits = replace(predictor.limits, banned=())
        self.twin = Twin(saved.model, saved.architecture, limits)
        self.twin.model.to(self.device, self.dtype)
        self.loader = DataLoader(
            Photos(files, transform.size, transform.mean, transform.std),
            batch,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
        )

    @torch.inference_mode()
    def caption(self) -> list[str]:
        """Captions of all files."""
        found = []
        for images in self.loader:
            there = images.to(self.device, self.dtype, non_blocking=True)
            found += [self.tokenizer.decode(ids) for ids in self.twin.generate(there, self.beam)]
        assert len(found) == len(cast(Sized, self.loader.dataset))
        return found
