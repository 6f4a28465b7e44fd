"""The first phase's decoder, kept through the second for the model's consensus (`models.reference`)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.config import TrainConfig
from pipeline.models.build import build
from pipeline.models.captioner import Captioner
from pipeline.models.reference import WithReference
from pipeline.models.saved import SavedCaptioner


def wants_reference(settings: TrainConfig) -> bool:
    """Whether a second phase's model is kept with a reference: where its consensus draws captions.

    With an encoder that is trained too there is none: the reference would need its own.
    """
    consensus = settings.generation.consensus
    drawn = consensus is not None and consensus.samples > 0
    return drawn and settings.encoder.train == "none"


def add_reference(saved: SavedCaptioner, first: Captioner) -> SavedCaptioner:
    """A second phase's captioner with the `first` phase's decoder for its reference."""
    architecture = _described(saved, reference=True)
    model = build(architecture)
    assert isinstance(model.decoder, WithReference)
    model.encoder.load_state_dict(saved.model.encoder.state_dict())
    model.decoder.decoder.load_state_dict(saved.model.decoder.state_dict())
    model.decoder.reference.load_state_dict(first.decoder.state_dict())
    return replace(saved, model=model.eval(), architecture=architecture)


def without_reference(saved: SavedCaptioner) -> SavedCaptioner:
    """The captioner alone: what another training goes on from."""
    decoder = saved.model.decoder
    if not isinstance(decoder, WithReference):
        return saved
    model = Captioner(saved.model.encoder, decoder.decoder)
    return replace(saved, model=model, architecture=_described(saved, reference=False))


def _described(saved: SavedCaptioner, *, reference: bool) -> dict[str, Any]:
    decoder = {k: v for k, v in saved.architecture["decoder"].items() if k != "reference"}
    if reference:
        decoder["reference"] = True
    return {**saved.architecture, "decoder": decoder}
