"""What search_speed.py measures: a captioner of ours and transformers' model with its weights."""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers_twin import Twin

from pipeline import images as picture
from pipeline.decode import Hypothesis, Limits, search
from pipeline.models.build import build
from pipeline.models.captioner import Captioner
from pipeline.models.linear import lay_out_for_inference
from pipeline.predict import load_captioner

BOS, EOS, PAD = 1, 2, 0
SMALL, BASE = (384, 6), (768, 12)
VOCABULARY = 10_000


@dataclass
class Pair:
    """Both models and what they caption."""

    ours: Captioner
    single: Captioner | None
    """Ours in float32, beside bfloat16 on a CPU."""
    theirs: Twin
    architecture: dict[str, Any]
    limits: Limits
    images: Tensor

    @torch.inference_mode()
    def encode(self) -> Tensor:
        return self.ours.memory(self.ours.features(self.images)).tokens_BSD

    @torch.inference_mode()
    def caption(self, beam: int) -> list[list[Hypothesis]]:
        memory = self.ours.memory(self.ours.features(self.images))
        return search(self.ours, memory, self.limits, beam=beam)

    @torch.inference_mode()
    def caption_single(self, beam: int) -> list[list[Hypothesis]]:
        assert self.single is not None
        memory = self.single.memory(self.single.features(self.images.float()))
        return search(self.single, memory, self.limits, beam=beam)

    @torch.inference_mode()
    def generate(self, beam: int) -> list[tuple[int, ...]]:
        return self.theirs.generate(self.images, beam)

    @torch.inference_mode()
    def encode_theirs(self) -> Tensor:
        return self.theirs.encode(self.images)


def random_pair(options: argparse.Namespace) -> Pair:
    width, heads = BASE if options.device == "cuda" else SMALL
    architecture: dict[str, Any] = {
        "encoder": {
            "name": "vit",
            "train": "none",
            "patch": 16,
            "depth": 12,
            "width": width,
            "heads": heads,
            "mlp": 4 * width,
        },
        "decoder": {
            "kind": "gpt",
            "width": width,
            "layers": 6,
            "heads": heads,
            "positions": 128,
            "bridge": "plain",
        },
        "vocabulary": VOCABULARY,
        "size": 224,
    }
    torch.manual_seed(0)
    limits = Limits(BOS, EOS, PAD, max_len=options.tokens, min_len=options.tokens)
    images = torch.randn(options.batch, 3, 224, 224)
    return _pair(build(architecture), architecture, limits, images, options)


def trained_pair(options: argparse.Namespace) -> Pair:
    """A captioner of a ViT and a GPT decoder, with its own settings."""
    predictor = load_captioner(options.captioner, device="cpu")
    paths = sorted(p for p in options.images.rglob("*") if p.suffix.lower() in {".jpg", ".png"})
    pixels = torch.stack([predictor.pixels(path) for path in paths[: options.batch]])
    images = picture.normalise(pixels, predictor.transform)
    saved = predictor.saved
    return _pair(saved.model, saved.architecture, predictor.limits, images, options)


def _pair(
    model: Captioner,
    architecture: dict[str, Any],
    limits: Limits,
    images: Tensor,
    options: argparse.Namespace,
) -> Pair:
    dtype = getattr(torch, options.dtype)
    twin = Twin(model, architecture, limits)
    twin.model.to(options.device, dtype)
    compared = options.device == "cpu" and dtype != torch.float32
    single = copy.deepcopy(model).eval() if compared else None
    model.to(options.device, dtype).eval()
    if options.device == "cpu":
        for each in (model, single):
            if each is not None:
                lay_out_for_inference(each)
    return Pair(model, single, twin, architecture, limits, images.to(options.device, dtype))


def encoder_operations(architecture: dict[str, Any]) -> float:
    """Of a picture; a multiplication and an addition count as two."""
    settings = architecture["encoder"]
    width, mlp, depth = settings["width"], settings["mlp"], settings["depth"]
    patches = (architecture["size"] // settings["patch"]) ** 2
    tokens = patches + 1
    block = tokens * width * (4 * width + 2 * mlp) + 2 * tokens * tokens * width
    return 2.0 * (depth * block + patches * width * 3 * settings["patch"] ** 2)


def decoder_operations(architecture: dict[str, Any], beam: int, tokens: float) -> float:
    """Of a picture whose `beam` captions have `tokens` tokens each."""
    settings, source = architecture["decoder"], architecture["encoder"]
    width, layers = settings["width"], settings["layers"]
    mlp = settings.get("mlp") or 4 * width
    places = (architecture["size"] // source["patch"]) ** 2 + 1
    once = layers * places * width * 2 * width
    token = layers * width * (6 * width + 2 * mlp) + width * architecture["vocabulary"]
    looks = layers * 2 * width * (places + tokens / 2)
    return 2.0 * (once + beam * tokens * (token + looks))
