"""The model that a finished run keeps: its best epoch's, or the mean of several if it is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline import storage
from pipeline.evaluate import Features, load_pixels
from pipeline.images import normalise
from pipeline.models.saved import SavedCaptioner
from pipeline.predict.photos import Photos, embed
from pipeline.predict.views import all_views
from pipeline.progress import Progress, say
from pipeline.records import Checkpoint
from pipeline.shards import ShardReader
from pipeline.train.average import mean_of
from pipeline.train.checkpoints import Checkpoints
from pipeline.train.position import Position
from pipeline.train.validation import Validation

BATCH = 64
"""Views of training photos that are looked at together for `Photos`."""


@dataclass(frozen=True)
class Chosen:
    """The model that is kept, and where in the run it comes from."""

    saved: SavedCaptioner
    epoch: int
    """The best."""
    step: int
    cider: float
    last_epoch: int
    """The last that its weights come from, where they are a mean."""


def choose_model(
    checkpoints: Checkpoints,
    position: Position,
    validation: Validation,
    features: Features | None,
) -> Chosen:
    """The best epoch's model, or the average that the settings ask for where it scores higher.

    Raises:
        ModelError: a checkpoint that is needed is lost.
    """
    best = position.best
    assert best is not None
    saved = checkpoints.load(best)
    chosen = Chosen(saved, best.epoch, best.step, best.cider, best.epoch)
    averaged = position.ranked(checkpoints.average.count, checkpoints.average.of)
    if len(averaged) < 2:
        return chosen
    states = [checkpoints.load(score).model.state_dict() for score in averaged]
    mean = checkpoints.load(best)
    mean.model.load_state_dict(mean_of(states))
    evaluation = validation.evaluate(mean, features)
    scores = evaluation.percent()
    epochs = sorted(score.epoch for score in averaged)
    better = scores["cider"] > best.cider
    say(
        "train",
        f"mean of epochs {', '.join(map(str, epochs))}: CIDEr {scores['cider']:.1f}, "
        f"{'kept' if better else f'epoch {best.epoch} is kept'}",
    )
    if not better:
        return chosen
    mean.provenance.update(averaged_epochs=epochs, validation=scores)
    mean.model.to("cpu")
    return Chosen(mean, best.epoch, best.step, scores["cider"], epochs[-1])


@torch.inference_mode()
def add_photos(
    saved: SavedCaptioner,
    reader: ShardReader,
    features: Features | None,
    device: torch.device,
    precision: torch.dtype | None,
    between: Callable[[], None],
) -> None:
    """Give a model the training photos that its consensus asks for, if it does.

    Args:
        saved: the model.
        reader: the training split.
        features: of the photos, where they are cached.
        device: to encode them on.
        precision: of autocast, as in training; None for float32.
        between: called after every batch; it may raise to end this.

    Raises:
        DataError: a picture of the shards cannot be decoded.
    """
    consensus = saved.generation.consensus
    if consensus is None or not consensus.photos:
        return
    model, count = saved.model.to(device).eval(), min(consensus.photos, len(reader))
    # Evenly spaced: the shards' order may follow where the photos come from.
    chosen = [place * len(reader) // count for place in range(count)]
    line, embeddings, size = Progress("photos", count), [], BATCH // consensus.views
    for start in range(0, count, size):
        rows = chosen[start : start + size]
        with torch.autocast(device.type, precision, enabled=precision is not None):
            if features is not None and consensus.views == 1:
                seen = torch.cat([features(row, row + 1) for row in rows])
            else:
                pixels = normalise(load_pixels(saved.transform, reader, rows), saved.transform)
                seen = model.features(all_views(pixels.to(device), consensus.views))
            mean_BC = model.memory(seen.to(device)).mean_BC
        assert mean_BC is not None
        embeddings.append(embed(mean_BC.unflatten(0, (consensus.views, -1))).cpu())
        line.add(len(rows))
        between()
    captions = reader.captions()
    saved.photos = Photos.fit(
        torch.cat(embeddings), [captions[row] for row in chosen], consensus.photos_ridge
    ).to_bytes()
    line.close()
    model.to("cpu")


def keep_model(
    chosen: Chosen, directory: Path, fingerprint: str, shard_set: str, run_id: str | None
) -> Checkpoint:
    """Commit the model into a run's directory, and make the run's record."""
    with storage.commit_directory(directory / "model") as model:
        chosen.saved.save(model)
    return Checkpoint(
        path=str(directory / "model"),
        fingerprint=fingerprint,
        shard_set=shard_set,
        epoch=chosen.epoch,
        step=chosen.step,
        validation_cider=chosen.cider,
        run_id=run_id,
    )
