"""`promote`: a scored checkpoint into the registry, and the champion's chair if it is better.

Everything is decided from what the registry holds, so a rerun after a kill repairs whatever
was left undone, and after the registry was deleted the work is done again. Aliases:
`champion`; `previous`, the champion before it; `challenger`, the last candidate refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.progress import say
from pipeline.promote.champion import champion_scores
from pipeline.promote.gate import decide
from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet
from pipeline.tracking import ModelVersion, Tracker

RECIPE = 1


def promote(
    config: Config,
    work: Path,
    shard_set: ShardSet,
    checkpoint: Checkpoint,
    score_card: ScoreCard,
) -> Decision:
    """Register the checkpoint, compare it with the champion, and settle the aliases.

    Raises:
        ConfigError: the score card is a control or another checkpoint's, or MLflow is missing.
        BusyError: another promotion runs in `work`.
        ModelError: the champion has to be scored again and cannot be loaded.
    """
    _check(config, checkpoint, score_card)
    case = Case(config, work.absolute(), shard_set, checkpoint, score_card)
    with storage.lock(case.work / "promote"):
        tracker = Tracker(case.work)
        candidate = tracker.register(config.promote.name, Path(checkpoint.path), checkpoint.run_id)
        champion = _champion(tracker, candidate.name)
        identity = case.identity(candidate, champion)
        decision = _stored(candidate, champion, identity)
        directory = case.work / "promote" / (decision.fingerprint if decision else identity)
        record = directory / "record.json"
        known = decision is not None and record.exists()
        if decision is None:
            record.unlink(missing_ok=True)  # of a registry that is gone
            decision = _decide(case, candidate, champion, directory)
            case.keep(directory / "evidence")
            decision.save(directory / "evidence" / "decision.json")
            _attach(tracker, candidate, case, decision)
        if not known:
            _settle(tracker, decision)
            decision.save(record)
        note = _moved(tracker, decision)
    say("promote", f"{'nothing new: ' if known else ''}{decision.reason}{note}")
    return decision


@dataclass(frozen=True)
class Case:
    """What a decision rests on, beside the champion."""

    config: Config
    work: Path
    shard_set: ShardSet
    checkpoint: Checkpoint
    card: ScoreCard

    def identity(self, candidate: ModelVersion, champion: ModelVersion | None) -> str:
        """The decision's fingerprint."""
        card = self.card
        return storage.fingerprint(
            {
                "recipe": RECIPE,
                "candidate": [candidate.ref, candidate.fingerprint],
                "champion": champion and [champion.ref, champion.fingerprint],
                "card": [card.fingerprint, card.references, card.signature, card.metrics],
                "min_gain": self.config.promote.min_gain,
            }
        )

    def keep(self, directory: Path) -> None:
        """Write it as files, as the version will carry it."""
        self.shard_set.save(directory / "shard_set.json")
        self.checkpoint.save(directory / "checkpoint.json")
        self.card.save(directory / "score_card.json")
        storage.commit(directory / "config.yaml", self.config.to_yaml())


def _check(config: Config, checkpoint: Checkpoint, score_card: ScoreCard) -> None:
    if config.score.shuffle_images:
        raise ConfigError(
            "score.shuffle_images = true is a control; set it to false to promote by its scores"
        )
    if score_card.checkpoint != checkpoint.fingerprint:
        raise ConfigError(
            f"score card {score_card.path} belongs to checkpoint {score_card.checkpoint}, not "
            f"{checkpoint.fingerprint}; run `captionmill score` with these settings first"
        )


def _champion(tracker: Tracker, name: str) -> ModelVersion | None:
    number = tracker.aliases(name).get("champion")
    found = (version for version in tracker.versions(name) if version.version == number)
    return next(found, None)


def _stored(
    candidate: ModelVersion, champion: ModelVersion | None, identity: str
) -> Decision | None:
    """The decision that the version carries, if it is about this situation.

    The decision that made the reigning champion stays valid: there is nothing to decide.
    """
    try:
        decision = Decision.model_validate_json(candidate.tags.get("captionmill.decision", ""))
    except ValidationError:
        return None  # never decided, or by a release whose records were different
    reigns = champion is not None and champion.version == candidate.version
    if decision.fingerprint == identity or (reigns and decision.promoted):
        return decision
    return None


def _decide(
    case: Case, candidate: ModelVersion, champion: ModelVersion | None, directory: Path
) -> Decision:
    card = case.card
    theirs: dict[str, float] | None = None
    if champion is not None:
        reigns = champion.version == candidate.version
        theirs = (
            card.metrics
            if reigns
            else champion_scores(case.config, case.work, case.shard_set, card, champion)
        )
    verdict = decide(
        candidate=(candidate.ref, card.metrics),
        champion=None if champion is None or theirs is None else (champion.ref, theirs),
        min_gain=case.config.promote.min_gain,
    )
    return Decision(
        path=str(directory),
        fingerprint=directory.name,
        model=candidate.name,
        version=candidate.version,
        promoted=verdict.promoted,
        reason=verdict.reason,
        candidate=card.metrics,
        champion=theirs,
        champion_version=champion.version if champion is not None else None,
        min_gain=case.config.promote.min_gain,
        signature=card.signature,
    )


def _attach(tracker: Tracker, candidate: ModelVersion, case: Case, decision: Decision) -> None:
    """Files first; the decision's tag last, since a rerun takes it for the whole."""
    for folder, source in (
        ("evidence/score", Path(case.card.path)),
        ("evidence", Path(decision.path) / "evidence"),
    ):
        for path in sorted(source.iterdir()):
            if path.is_file() and not path.name.startswith("."):
                tracker.attach(candidate, path, folder)
    tracker.tag(
        candidate,
        {
            "shard_set": case.checkpoint.shard_set,
            "checkpoint": case.checkpoint.fingerprint,
            "score_card": case.card.model_dump_json(),
            "beam": case.config.score.beam,
            "dtype": case.config.score.dtype,
            "cider": round(case.card.metrics["cider"], 3),
            "promoted": decision.promoted,
            "reason": decision.reason,
            "decision": decision.model_dump_json(),
        },
    )


def _settle(tracker: Tracker, decision: Decision) -> None:
    """Point the aliases where the decision says; again does nothing."""
    aliases = tracker.aliases(decision.model)
    if decision.promoted:
        wanted = {"previous": decision.champion_version, "champion": decision.version}
        if aliases.get("challenger") == decision.version:
            tracker.set_alias(decision.model, "challenger", None)
    elif decision.version != aliases.get("champion"):
        wanted = {"challenger": decision.version}
    else:
        wanted = {}
    for alias, version in wanted.items():
        if version is not None and aliases.get(alias) != version:
            tracker.set_alias(decision.model, alias, version)


def _moved(tracker: Tracker, decision: Decision) -> str:
    """What to add where the champion is another than this decision left."""
    now = tracker.aliases(decision.model).get("champion")
    left = decision.version if decision.promoted else decision.champion_version
    if now == left:
        return ""
    place = "is unset" if now is None else f"points at {decision.model}/{now}"
    return f"; since then champion was moved and {place}, which is left as it is"
