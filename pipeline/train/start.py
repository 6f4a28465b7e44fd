"""A training that goes on from a former captioner: its weights, with its tokenizer."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.images import Transform
from pipeline.models.build import build
from pipeline.models.captioner import Captioner
from pipeline.models.saved import SavedCaptioner
from pipeline.models.stages import StagedEncoder
from pipeline.train.reference import without_reference


def former_captioner(config: Config) -> SavedCaptioner | None:
    """The captioner that `train.start` names; None where training starts fresh.

    Raises:
        ModelError: it cannot be loaded.
    """
    if config.train.start is None:
        return None
    return without_reference(SavedCaptioner.load(config.input_path(config.train.start)))


def require_same(
    former: SavedCaptioner, architecture: dict[str, Any], transform: Transform
) -> None:
    """Raise ConfigError unless the settings ask for the network and pictures the former has.

    What stays frozen, and how much is dropped out, may differ: they hold no weights.
    """
    asked, has = _shape(architecture), _shape(former.architecture)
    differences = [
        f"{key} = {asked.get(key)!r}, not {has.get(key)!r}"
        for key in sorted({*asked, *has})
        if asked.get(key) != has.get(key)
    ]
    if former.transform.fingerprint() != transform.fingerprint():
        differences.append("transform")
    if differences:
        raise ConfigError(
            "training cannot start from a captioner of another shape: the settings ask for "
            f"{'; '.join(differences)}. Set retrain.start = fresh, or the settings as they were"
        )


def take_over(former: Captioner, architecture: dict[str, Any]) -> Captioner:
    """A model of the `architecture` with a former one's weights; what is frozen and dropped is the new one's."""
    with torch.random.fork_rng(devices=[]):
        model = build(architecture)
    model.decoder.load_state_dict(former.decoder.state_dict())
    encoder, before = model.encoder, former.encoder
    if isinstance(encoder, StagedEncoder) and isinstance(before, StagedEncoder):
        # Where training starts is part of the names of its own tensors, and of no stage's.
        encoder.stages.load_state_dict(before.stages.state_dict())
    else:
        encoder.load_state_dict(before.state_dict())
    return model


def _shape(architecture: dict[str, Any]) -> dict[str, Any]:
    """What decides the tensors, flat."""
    flat = {key: value for key, value in architecture.items() if not isinstance(value, dict)}
    for part in ("encoder", "decoder"):
        flat |= {f"{part}.{key}": value for key, value in architecture[part].items()}
    for free in ("encoder.train", "encoder.freeze_batch_norm", "decoder.dropout"):
        flat.pop(free, None)
    return flat
