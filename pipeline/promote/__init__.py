"""`promote`: a scored checkpoint into the registry, and the champion's chair if it is better.

Everything is decided from what the registry holds, so a rerun after a kill repairs whatever
was left undone, and after the registry was deleted the work is done again. Aliases:
`champion`; `previous`, the champion before it; `challenger`, the last candidate that was refused
or waits for a person.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.progress import say
from pipeline.promote.approve import approve
from pipeline.promote.audit import Entry, this_user
from pipeline.promote.case import Case
from pipeline.promote.evaluation_set import pin, pinned_set
from pipeline.promote.judging import judge
from pipeline.promote.keep import attach_evidence, stored_decision
from pipeline.promote.lineage import earlier_sets
from pipeline.promote.moves import begin, finish_pending, promotions, remove_torn
from pipeline.promote.rollback import rollback
from pipeline.promote.settle import decided
from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet
from pipeline.tracking import Tracker

__all__ = ["Entry", "approve", "promote", "rollback"]


def promote(
    config: Config,
    work: Path,
    shard_set: ShardSet,
    checkpoint: Checkpoint,
    score_card: ScoreCard,
    *,
    asked_by: str | None = None,
    cause: str = "",
    flow_run: str | None = None,
    dry_run: bool = False,
) -> Decision:
    """Register the checkpoint, compare it with the champion, and settle the aliases.

    Args:
        config: the settings.
        work: the work directory.
        shard_set: what the checkpoint was trained with.
        checkpoint: the candidate.
        score_card: its scores.
        asked_by: who or what asks; default: this user.
        cause: why.
        flow_run: Prefect's id of a run that waits where a person has to approve.
        dry_run: decide, and change nothing.

    Raises:
        ConfigError: the score card is a control or another checkpoint's, the evaluation set is too
            small, the champion was promoted by other metrics, or MLflow is missing.
        DataError: there is no evaluation set, or the pinned one is gone.
        BusyError: another promotion runs in `work`.
        ModelError: the champion cannot be loaded.
        AliasMovedError: the champion was moved while the candidate was compared with it.
    """
    _check(config, shard_set, checkpoint, score_card)
    tracker = Tracker(work)
    case = Case(
        config,
        work.absolute(),
        shard_set,
        checkpoint,
        score_card,
        asked_by or this_user(),
        cause,
        flow_run,
        earlier_sets(tracker, config.promote.name, checkpoint),
    )
    if dry_run:
        return _rehearse(case, tracker)
    with storage.lock(promotions(case.work)):
        remove_torn(case.work)
        finish_pending(tracker, config.promote.name)
        decision, known = _decide_and_settle(case, tracker)
        note = _moved(tracker, decision)
    say("promote", f"{'nothing new: ' if known else ''}{decision.sentence}{note}")
    return decision


def _check(
    config: Config, shard_set: ShardSet, checkpoint: Checkpoint, score_card: ScoreCard
) -> None:
    if config.score.shuffle_images:
        raise ConfigError(
            "score.shuffle_images = true is a control; set it to false to promote by its scores"
        )
    if score_card.checkpoint != checkpoint.fingerprint:
        raise ConfigError(
            f"score card {score_card.path} belongs to checkpoint {score_card.checkpoint}, not "
            f"{checkpoint.fingerprint}; run `captionmill score` with these settings first"
        )
    if checkpoint.shard_set != shard_set.fingerprint:
        raise ConfigError(
            f"checkpoint {checkpoint.path} was trained with the shard set {checkpoint.shard_set}, not "
            f"{shard_set.fingerprint}: whether it learned from evaluation pictures cannot be told; "
            "promote it with the settings that it was trained with"
        )


def _decide_and_settle(case: Case, tracker: Tracker) -> tuple[Decision, bool]:
    config, checkpoint = case.config, case.checkpoint
    evaluation_set = pinned_set(config, tracker, case.shard_set)
    candidate = tracker.register(config.promote.name, Path(checkpoint.path), checkpoint.run_id)
    before = tracker.aliases(candidate.name)
    champion = tracker.find(candidate.name, before.get("champion"))
    identity = case.identity(candidate, champion, evaluation_set)
    decision = stored_decision(candidate, champion, identity)
    directory = promotions(case.work) / (decision.fingerprint if decision else identity)
    if decision is not None and (directory / "record.json").exists():
        return decision, True
    if decision is None:
        (directory / "record.json").unlink(missing_ok=True)  # of a registry that is gone
        decision = judge(case, candidate, champion, evaluation_set, directory)
        attach_evidence(tracker, candidate, case, decision, directory)
    if decision.path != str(directory):  # the work directory was moved since
        decision = decision.model_copy(update={"path": str(directory)})
    pin(config, tracker, evaluation_set)
    begin(tracker, decided(decision, before))
    return decision, False


def _rehearse(case: Case, tracker: Tracker) -> Decision:
    """The decision, made in a temporary directory; registry and work directory stay as they are."""
    evaluation_set = pinned_set(case.config, tracker, case.shard_set)
    name = case.config.promote.name
    champion = tracker.champion(name)
    candidate = tracker.would_register(name, Path(case.checkpoint.path))
    with _scratch() as directory:
        decision = judge(case, candidate, champion, evaluation_set, directory)
    say("promote", f"dry run, nothing is changed: {decision.sentence}")
    return decision


@contextmanager
def _scratch() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="captionmill-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _moved(tracker: Tracker, decision: Decision) -> str:
    """What to add where the champion is another than this decision left."""
    now = tracker.aliases(decision.model).get("champion")
    left = decision.version if decision.promoted else decision.champion_version
    if now == left:
        return ""
    place = "is unset" if now is None else f"points at {decision.model}/{now}"
    return f"; since then champion was moved and {place}, which is left as it is"
