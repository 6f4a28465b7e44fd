"""Why a retraining runs, and what it starts from; decided before anything is trained.

    WORK/retrain/<key>.json        what the training of these settings and data starts from
    WORK/retrain/<key>.why.json    why, until the run has decided

With `retrain.start = champion` the champion of the first attempt is written down under a key of
settings and data: a killed run goes on from the same weights, and a run with nothing new finds
all its work done, although its own result may be champion by now. A run that was killed after
its training goes on for the reasons that it began with.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.errors import DataError, ModelNotFoundError
from pipeline.progress import say
from pipeline.promote.drift import caption_drift, drifted, word_drift
from pipeline.promote.keep import evidence_of
from pipeline.records import Record, ShardSet
from pipeline.tracking import ModelVersion, Tracker


class Start(Record):
    """What a training starts from."""

    ref: str | None
    """NAME/version; None: from scratch."""
    fingerprint: str | None


class Reason(Record):
    """Why a retraining runs: a word for the run's name, and a sentence."""

    word: str
    sentence: str


class Attempt(Record):
    """A retraining that has not decided yet."""

    reasons: list[Reason]


def with_start(config: Config, work: Path, key: str) -> Config:
    """The settings with `train.start` filled in as `retrain.start` asks.

    Args:
        config: the settings.
        work: the work directory.
        key: of the settings and the data that decide the training, but for where it starts.
    """
    if config.retrain.start == "fresh" or config.train.start is not None:
        return config
    path = work.absolute() / "retrain" / f"{key}.json"
    tracker, name = Tracker(work), config.promote.name
    versions = {version.ref: version for version in tracker.versions(name)}
    start = _known(path, versions)
    if start is None:
        champion = tracker.champion(name)
        start = Start(ref=champion and champion.ref, fingerprint=champion and champion.fingerprint)
        start.save(path)
    if start.ref is None:
        say("retrain", "no champion yet: training starts from scratch")
        return config
    say("retrain", f"training starts from {start.ref}")
    training = config.train.model_copy(update={"start": str(versions[start.ref].directory)})
    return config.model_copy(update={"train": training})


def _known(path: Path, versions: dict[str, ModelVersion]) -> Start | None:
    try:
        start = Start.load(path)
    except (FileNotFoundError, ValueError):
        return None
    if start.ref is None:
        return start
    found = versions.get(start.ref)
    if found is None or found.fingerprint != start.fingerprint:
        return None  # of a registry that was made anew
    try:
        found.directory  # noqa: B018
    except ModelNotFoundError:
        return None  # `captionmill gc` removed its files, since nothing pointed at it
    return start


def reasons(
    config: Config, work: Path, shard_set: ShardSet, *, done: bool, tables: list[Path]
) -> list[Reason]:
    """Why this retraining runs, the weightiest first; never none.

    Args:
        config: the settings.
        work: the work directory.
        shard_set: the data as it is now.
        done: whether these settings and data are trained already.
        tables: of bulk runs, to be looked at for drift.

    Raises:
        TableError: a table that is none.
    """
    champion = Tracker(work).champion(config.promote.name)
    if champion is None:
        return [Reason(word="first", sentence="there is no champion yet")]
    found = _drift(config, champion, shard_set, tables)
    if done:
        nothing = "nothing new: data, settings and recipe are those of a finished training"
        if found:
            nothing += "; against the drift it takes captions of such pictures"
        return [Reason(word="nothing-new", sentence=nothing), *found]
    if champion.tags.get("captionmill.shard_set") == shard_set.fingerprint:
        return [*found, Reason(word="new-settings", sentence="settings or recipe have changed")]
    return [*found, Reason(word="new-shards", sentence=_grown(champion, shard_set))]


def of_attempt(work: Path, key: str, found: list[Reason], *, done: bool) -> list[Reason]:
    """The reasons of the attempt under this key: those of now, or those that it began with.

    Args:
        work: the work directory.
        key: as for `with_start`.
        found: what `reasons` gives now.
        done: as for `reasons`; an attempt begins where nothing is trained yet.
    """
    path = _attempt(work, key)
    if not done:
        Attempt(reasons=found).save(path)
        return found
    try:
        return Attempt.load(path).reasons
    except (FileNotFoundError, ValueError):
        return found


def end_attempt(work: Path, key: str) -> None:
    """The attempt has come to its decision: what runs again has nothing to go on with."""
    _attempt(work, key).unlink(missing_ok=True)


def _attempt(work: Path, key: str) -> Path:
    return work.absolute() / "retrain" / f"{key}.why.json"


def _drift(
    config: Config, champion: ModelVersion, shard_set: ShardSet, tables: list[Path]
) -> list[Reason]:
    settings = config.retrain.drift
    words = word_drift(settings, champion, shard_set)
    signs = drifted([*([words] if words is not None else [])])
    for table in tables:
        signs += drifted(caption_drift(settings, champion, table))
    if not signs:
        return []
    sentence = "drift: " + "; ".join(sign.sentence for sign in signs)
    return [Reason(word="drift", sentence=sentence)]


def _grown(champion: ModelVersion, shard_set: ShardSet) -> str:
    try:
        before = evidence_of(champion)[0].samples.get("train", 0)
    except DataError:
        return "the shards are not those of the champion"
    now = shard_set.samples.get("train", 0)
    return f"training pictures: {now:,}, {now - before:+,} since {champion.ref}"
