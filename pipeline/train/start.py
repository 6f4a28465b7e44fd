"""A training that goes on from a former captioner: its weights, with its tokenizer."""

from __future__ import annotations

from typing import Any

from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.images import Transform
from pipeline.models.saved import SavedCaptioner
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


def _shape(architecture: dict[str, Any]) -> dict[str, Any]:
    """What decides the tensors, flat."""
    flat = {key: value for key, value in architecture.items() if not isinstance(value, dict)}
    for part in ("encoder", "decoder"):
        flat |= {f"{part}.{key}": value for key, value in architecture[part].items()}
    for free in ("encoder.train", "encoder.freeze_batch_norm", "decoder.dropout"):
        flat.pop(free, None)
    return flat
