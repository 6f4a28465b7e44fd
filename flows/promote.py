"""The flow `promote`: a scored checkpoint into the registry, and its report as an artifact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.flow_runs import suspend_flow_run

from flows.runs import REMOTE, asked_by, run_name
from pipeline import promote as stage
from pipeline.config import Config, load_config
from pipeline.promote.report import decision_markdown
from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet
from pipeline.score import find_score_card
from pipeline.shard import find_shard_set
from pipeline.train import find_checkpoint

WAIT_SECONDS = 30 * 24 * 3600
"""How long a run waits for approval before Prefect gives it up; `approve` works all the same."""


@task(name="promote-captioner", **REMOTE)
def promote_captioner(
    settings: Config,
    work: Path,
    shard_set: ShardSet,
    checkpoint: Checkpoint,
    card: ScoreCard,
    cause: str = "",
) -> Decision:
    """Run the stage; a rerun repairs what a broken connection left undone."""
    run = str(runtime.flow_run.id) if runtime.deployment.id else None
    records = (shard_set, checkpoint, card)
    return stage.promote(settings, work, *records, asked_by=asked_by(), cause=cause, flow_run=run)


@task(name="publish-report", **REMOTE)
def publish_report(
    shard_set: ShardSet, checkpoint: Checkpoint, card: ScoreCard, decision: Decision
) -> None:
    """Show the score card and the decision in Prefect's UI."""
    create_markdown_artifact(
        decision_markdown(shard_set, checkpoint, card, decision),
        key="captionmill-promotion",
        description=decision.sentence,
    )


def wait_for_approval(decision: Decision) -> None:
    """Suspend the run of a deployment until somebody approves: no worker is held meanwhile.

    The run's process ends here. `captionmill approve` resumes it, and all stages are recognised as
    done. A run without a deployment simply ends: there is nobody to start it again.
    """
    if decision.waiting and runtime.deployment.id:
        suspend_flow_run(timeout=WAIT_SECONDS, key=f"approve-{decision.fingerprint}")


@flow(name="promote", flow_run_name=run_name, persist_result=False)
def promote(
    config: str | None = None, overrides: list[str] | None = None, work: str = "captionmill-work"
) -> dict[str, Any]:
    """Promote the scored checkpoint of a YAML `config`, if it is better; the Decision record."""
    settings, root = load_config(config, overrides), Path(work)
    shard_set = find_shard_set(settings, root)
    checkpoint = find_checkpoint(settings, root, shard_set)
    card = find_score_card(settings, root, shard_set, checkpoint)
    decision = promote_captioner(settings, root, shard_set, checkpoint, card)
    publish_report(shard_set, checkpoint, card, decision)
    wait_for_approval(decision)
    return decision.model_dump(mode="json")
