"""The flow `promote`: a scored checkpoint into the registry, and its report as an artifact."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.flow_runs import suspend_flow_run

from flows.gpus import hold_gpus
from flows.parameters import ConfigFile, Days, Deployments, Overrides, PathText
from flows.runs import REMOTE, asked_by, attended, is_unattended, run_name
from pipeline import promote as stage
from pipeline import storage
from pipeline.config import Config, load_config
from pipeline.progress import say
from pipeline.promote.moves import promotions
from pipeline.promote.report import decision_markdown
from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet
from pipeline.score import find_score_card
from pipeline.shard import find_shard_set
from pipeline.train import find_checkpoint


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
    run = str(runtime.flow_run.id) if is_unattended() else None
    records = (shard_set, checkpoint, card)
    with hold_gpus(settings, work):
        return stage.promote(
            settings, work, *records, asked_by=asked_by(), cause=cause, flow_run=run
        )


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


def wait_for_approval(decision: Decision, days: int) -> None:
    """Suspend the run of a deployment until somebody approves: no worker is held meanwhile.

    The run's process ends here. `captionmill approve` resumes it, and all stages are recognised as
    done. After `days` Prefect gives the run up; `approve` works all the same. A run without a
    deployment simply ends: there is nobody to start it again.
    """
    if decision.waiting and is_unattended():
        suspend_flow_run(timeout=days * 24 * 3600, key=f"approve-{decision.fingerprint}")


def announce(work: Path, decision: Decision, deployments: list[str]) -> None:
    """Tell of a new champion once, from a deployment's run; later runs find the marker."""
    told = promotions(work) / decision.fingerprint / "announced.json"
    if decision.promoted and is_unattended() and not told.exists():
        announce_champion(told, decision, deployments)


@task(name="announce-champion", **REMOTE)
def announce_champion(told: Path, decision: Decision, deployments: list[str]) -> None:
    """An event for notifications, and a run of each deployment that follows a new champion.

    The runs carry the decision as their idempotency key, so a repeated call, by a resumed run or
    after a lost answer, makes no second one.
    """
    champion = f"{decision.model}/{decision.version}"
    started = {}
    for name in deployments:
        key = f"{name} {champion} {decision.fingerprint}"
        run = run_deployment(
            name,
            parameters={"refresh": True},
            idempotency_key=key,
            timeout=0,
            as_subflow=False,
        )
        assert not isinstance(run, Coroutine)
        started[name] = str(run.id)
        say("promote", f"{name} follows {champion}: flow run {run.name}")
    emit_event(
        event="captionmill.promoted",
        resource={"prefect.resource.id": f"captionmill.model.{decision.model}"},
        payload={"champion": champion, "reason": decision.reason, "asked_by": decision.asked_by},
    )
    storage.commit_json(told, {"champion": champion, "runs": started})


@flow(name="promote", flow_run_name=run_name, persist_result=False)
def promote(
    config: ConfigFile = None,
    overrides: Overrides = None,
    work: PathText = "captionmill-work",
    on_promotion: Deployments | None = None,
    approval_days: Days = 30,
) -> dict[str, Any]:
    """Promote the scored checkpoint of the settings, if it is better; the Decision record.

    Args:
        config: A YAML file of settings, read where the worker runs; none: the defaults.
        overrides: Settings to change, each as a.b=value.
        work: The work directory, which all output goes to.
        on_promotion: Deployments, as flow/name, that are run with refresh=true by a new champion.
        approval_days: How long a candidate that needs a person's approval waits for it.
    """
    settings, root = load_config(config, overrides), Path(work)
    with attended(root):
        shard_set = find_shard_set(settings, root)
        checkpoint = find_checkpoint(settings, root, shard_set)
        card = find_score_card(settings, root, shard_set, checkpoint)
        decision = promote_captioner(settings, root, shard_set, checkpoint, card)
        publish_report(shard_set, checkpoint, card, decision)
        wait_for_approval(decision, approval_days)
        announce(root, decision, on_promotion or [])
    return decision.model_dump(mode="json")
