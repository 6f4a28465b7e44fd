"""The pinned evaluation set: the pictures that every promotion of a model is decided on.

The first promotion pins the split as it stands, by fingerprint, on the registered model. Later
ones use those very pictures, out of the parts that they were pinned in, however much the split
has grown since; to change to another set somebody names its fingerprint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from pipeline.config import Config
from pipeline.errors import ConfigError, DataError, ShardError
from pipeline.progress import say
from pipeline.promote.gate import require_enough_images
from pipeline.records import EvaluationSet, ShardSet
from pipeline.shards import ShardReader
from pipeline.tracking import Tracker

TAG = "evaluation_set"


def present_set(config: Config, shard_set: ShardSet) -> EvaluationSet:
    """The split that the settings score on, as it is now.

    Raises:
        DataError: the shard set has no pictures in it.
    """
    split = config.score.split
    if not shard_set.samples.get(split):
        known = ", ".join(f"{name} ({n:,})" for name, n in shard_set.samples.items() if n)
        raise DataError(
            f"no evaluation set: the shard set has no pictures in the split {split!r}; it has "
            f"{known or 'none'}. Set score.split to one of them, or shard.holdout to hold some back"
        )
    reader = ShardReader(shard_set, split)
    return EvaluationSet(
        fingerprint=reader.fingerprint, split=split, images=len(reader), shard_set=shard_set
    )


def pinned_set(
    config: Config, tracker: Tracker, shard_set: ShardSet, *, quiet: bool = False
) -> EvaluationSet:
    """The set to decide on: the one that is asked for, the pinned one, or else the present one.

    Raises:
        DataError: there is none, its pictures are gone, or another release noted it.
        ConfigError: `promote.evaluation_set` is neither the present split's nor the pinned one's.
    """
    asked, pinned = config.promote.evaluation_set, _pinned(config, tracker)
    if pinned is not None and asked in (None, pinned.fingerprint):
        present = _present_fingerprint(config, shard_set)
        if not quiet and pinned.fingerprint != present:
            say(
                "promote",
                f"evaluation set {pinned.fingerprint}: the {pinned.images:,} pictures of "
                f"{pinned.split!r} that it was pinned to",
            )
        return _whole(pinned, present)
    now = present_set(config, shard_set)
    if asked not in (None, now.fingerprint):
        known = f", the pinned one {pinned.fingerprint}" if pinned is not None else ""
        raise ConfigError(
            f"promote.evaluation_set = {asked!r} is not at hand: the split {now.split!r} is "
            f"{now.fingerprint} ({now.images:,} pictures){known}"
        )
    return now


def check_evaluation_set(config: Config, work: Path, shard_set: ShardSet) -> None:
    """Stop before a training whose result could not be judged.

    Raises:
        DataError, ConfigError: see `pinned_set`, and an evaluation set that is too small.
    """
    tracker = Tracker(work)
    found = pinned_set(config, tracker, shard_set, quiet=True)
    if tracker.aliases(config.promote.name).get("champion") is not None:
        require_enough_images(config.promote, found.images)


def pin(config: Config, tracker: Tracker, evaluation_set: EvaluationSet) -> None:
    """Note the set on the registered model, so that the next promotion uses the same."""
    pinned = _pinned(config, tracker)
    if pinned is None or pinned.fingerprint != evaluation_set.fingerprint:
        tracker.tag_model(config.promote.name, {TAG: evaluation_set.model_dump_json()})


def _pinned(config: Config, tracker: Tracker) -> EvaluationSet | None:
    name = config.promote.name
    text = tracker.model_tags(name).get(TAG)
    if text is None:
        return None
    try:
        pinned = EvaluationSet.model_validate_json(text)
    except ValidationError:
        if config.promote.evaluation_set is not None:
            return None  # somebody names another one
        raise DataError(
            f"the evaluation set pinned on {name} cannot be read by this release; set "
            "promote.evaluation_set to the fingerprint of the present split to change to that"
        ) from None
    # Its paths are absolute, and the work directory may have been moved or copied since.
    manifest = tracker.work.joinpath("shard", *Path(pinned.shard_set.manifest).parts[-3:])
    if not manifest.exists():
        return pinned
    here = pinned.shard_set.model_copy(update={"manifest": str(manifest)})
    return pinned.model_copy(update={"shard_set": here})


def _present_fingerprint(config: Config, shard_set: ShardSet) -> str | None:
    if not shard_set.samples.get(config.score.split):
        return None
    return ShardReader(shard_set, config.score.split).fingerprint


def _whole(pinned: EvaluationSet, present: str | None) -> EvaluationSet:
    try:
        found = ShardReader(pinned.shard_set, pinned.split).fingerprint
    except ShardError as error:
        raise DataError(
            f"the pinned evaluation set {pinned.fingerprint} ({pinned.images:,} pictures of "
            f"{pinned.split!r}) is gone: {error}. Put it back, or change to the present split: "
            f"promote.evaluation_set = {present or 'its fingerprint, once it has pictures'}"
        ) from None
    if found != pinned.fingerprint:
        raise DataError(
            f"the evaluation set in {pinned.shard_set.manifest} is {found}, no longer the pinned "
            f"{pinned.fingerprint}; put it back, or set promote.evaluation_set = {found!r}"
        )
    return pinned


def overlap(shard_sets: Sequence[ShardSet], evaluation_set: EvaluationSet) -> list[str]:
    """File names of the evaluation set's pictures that are training pictures too, by SHA-256.

    Args:
        shard_sets: the candidate's own, then those of the captioners that it was started from; of these
            `captionmill gc` may have removed the pictures, and then they cannot be looked at.
        evaluation_set: the pinned one.
    """
    learned: set[str] = set()
    for place, shard_set in enumerate(shard_sets):
        if shard_set.samples.get("train"):
            try:
                learned.update(ShardReader(shard_set, "train").digests())
            except ShardError:
                if place == 0:
                    raise
    reader = ShardReader(evaluation_set.shard_set, evaluation_set.split)
    both = [place for place, digest in enumerate(reader.digests()) if digest in learned]
    return [str(reader.info(place)["file_name"]) for place in both]
