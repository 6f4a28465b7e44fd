"""An architecture's description to a model with random weights: a plain table of decoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.models.bert import BertDecoder
from pipeline.models.captioner import Captioner, Decoder
from pipeline.models.encoders import build_encoder
from pipeline.models.gpt import GPTDecoder
from pipeline.models.linear import use_onednn
from pipeline.models.lstm import LSTMDecoder
from pipeline.models.reference import WithReference

DECODERS: dict[str, type[Decoder]] = {"bert": BertDecoder, "gpt": GPTDecoder, "lstm": LSTMDecoder}


def build(architecture: dict[str, Any], weights: str | Path | None = None) -> Captioner:
    """The model of an architecture, with the encoder's `weights` if given.

    Args:
        architecture: {"encoder": what `build_encoder` takes, "decoder": {"kind", its
            settings, "reference": true where there is one}, "vocabulary": V, "size": side of
            the input in pixels}; JSON, kept with the model.
        weights: see `build_encoder`.
    """
    encoder = build_encoder(**architecture["encoder"], size=architecture["size"], weights=weights)
    settings = dict(architecture["decoder"])
    kind, has_reference = DECODERS[settings.pop("kind")], settings.pop("reference", False)

    def decoder() -> Decoder:
        return kind(encoder.width, encoder.layout, architecture["vocabulary"], **settings)

    model = Captioner(encoder, WithReference(decoder(), decoder()) if has_reference else decoder())
    use_onednn(model)
    return model
