"""What a run starts from: tokenizer, architecture and first weights."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.config import Config, TrainConfig
from pipeline.metrics import References
from pipeline.models.build import build
from pipeline.models.gpt import GPTDecoder
from pipeline.models.importers.gpt2 import initialise
from pipeline.models.recipe import transform_for
from pipeline.models.saved import SavedCaptioner, model_fingerprint
from pipeline.predict import search_limits
from pipeline.records import ShardSet
from pipeline.train.average import MovingAverage
from pipeline.train.checkpoints import TrainingState
from pipeline.train.identity import decoder_weights, fingerprint, weights_file
from pipeline.train.optimiser import build_optimiser
from pipeline.train.start import former_captioner, require_same, take_over
from pipeline.train.vocabulary import build_tokenizer


def build_captioner(
    config: Config, shard_set: ShardSet, captions: list[list[str]]
) -> SavedCaptioner:
    """The model before the first step, on the CPU; a function of settings, data and seed.

    Raises:
        ConfigError: a setting that cannot work.
        WeightsError: an encoder or decoder weights file that does not fit.
        ModelError: the captioner to start from cannot be loaded.
    """
    settings = config.train
    former = former_captioner(config)
    if former is not None:
        tokenizer = former.tokenizer
    else:
        tokenizer = build_tokenizer(config, (text for group in captions for text in group))
    search_limits(tokenizer, settings.generation)  # a setting that cannot work stops here
    transform = transform_for(settings.encoder, settings.transform)
    architecture: dict[str, Any] = {
        "encoder": settings.encoder.model_dump(mode="json", exclude={"weights"}, exclude_none=True),
        "decoder": {
            **settings.decoder.model_dump(mode="json", exclude={"weights"}),
            "pad": tokenizer.pad,
        },
        "vocabulary": len(tokenizer),
        "size": transform.size,
    }
    torch.manual_seed(settings.seed)
    if former is not None:
        require_same(former, architecture, transform)
        model = take_over(former.model, architecture)
    else:
        model = build(architecture, weights_file(config) or settings.encoder.weights)
    if former is None and (start := decoder_weights(config)) is not None:
        assert isinstance(model.decoder, GPTDecoder)
        initialise(model.decoder, start)
    provenance = {
        "training_fingerprint": fingerprint(config, shard_set),
        "shard_set": shard_set.fingerprint,
        "settings": settings.model_dump(mode="json", exclude={"start"}),
    }
    if former is not None and settings.start is not None:
        provenance["started_from"] = model_fingerprint(config.input_path(settings.start))
        before = former.provenance
        learned = [*before.get("learned_from", []), before.get("shard_set", "unknown")]
        provenance["learned_from"] = list(dict.fromkeys(learned))
    frequencies = References(captions).document_frequencies.to_bytes()
    return SavedCaptioner(
        model,
        tokenizer,
        transform,
        settings.generation,
        architecture,
        provenance,
        frequencies,
    )


def begin(saved: SavedCaptioner, settings: TrainConfig, device: torch.device) -> TrainingState:
    """All that a step changes, before the first; the model is on its `device`."""
    return TrainingState(
        saved,
        build_optimiser(saved.model, settings),
        None if settings.ema is None else MovingAverage(saved.model, settings.ema),
        torch.amp.GradScaler(device.type) if settings.precision == "fp16" else None,
    )
