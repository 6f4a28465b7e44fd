"""An architecture's description to a model with random weights: a plain table of decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pipeline.models.captioner import Captioner, Decoder
from pipeline.models.encoders import build_encoder
from pipeline.models.lstm import LSTMDecoder

DECODERS: dict[str, type[Decoder]] = {"lstm": LSTMDecoder}


def build(architecture: dict[str, Any], weights: str | Path | None = None) -> Captioner:
    """The model of an architecture, with the encoder's `weights` if given.

    Args:
        architecture: {"encoder": {"name", "train", "freeze_batch_norm"}, "decoder": {"kind",
            ...}, "vocabulary": V, "size": side of the input in pixels}; JSON, kept with the model.
        weights: see `build_encoder`.
    """
    encoder = build_encoder(**architecture["encoder"], weights=weights)
    size = architecture["size"]
    with torch.inference_mode():
        grid = encoder.memory(encoder.features(torch.zeros(1, 3, size, size)))
    settings = dict(architecture["decoder"])
    decoder = DECODERS[settings.pop("kind")](
        grid.shape[1], grid.shape[2] * grid.shape[3], architecture["vocabulary"], **settings
    )
    return Captioner(encoder, decoder)
