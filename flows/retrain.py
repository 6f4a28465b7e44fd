"""The flow `retrain`: shard -> train -> score -> promote, with the reason in the run's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from flows.direct import Chain, check_scoring
from flows.parameters import Cause, ConfigFile, Days, Deployments, Overrides, Paths, PathText
from flows.promote import announce, promote_captioner, publish_report, wait_for_approval
from flows.runs import STAGE, attended, in_turn, is_done, name_run, run_name
from flows.score import score_captioner
from flows.shard import shard_dataset
from flows.train import train_captioner
from pipeline import train as training
from pipeline.config import Config, load_config
from pipeline.progress import say
from pipeline.promote.evaluation_set import check_evaluation_set
from pipeline.promote.need import end_attempt, of_attempt, reasons, with_start
from pipeline.records import ShardSet


@task(name="find-reason", **STAGE)
def find_reason(
    settings: Config, work: Path, shard_set: ShardSet, key: str, cause: str, tables: list[Path]
) -> tuple[Config, str]:
    """Settings with what training starts from, and why there is a training at all."""
    settings = with_start(settings, work, key)
    done = is_done(training.find_checkpoint, settings, work, shard_set)
    found = reasons(settings, work, shard_set, done=done, tables=tables)
    found = of_attempt(work, key, found, done=done)
    sentence = "; ".join(filter(None, [cause, *(reason.sentence for reason in found)]))
    say("retrain", sentence)
    name_run("-".join(filter(None, [cause.replace(" ", "-"), found[0].word])))
    return settings, sentence


def run_chain(
    settings: Config, work: Path, cause: str = "", tables: list[Path] | None = None
) -> Chain:
    """One task a stage, inside the flow run that calls it."""
    check_scoring(settings)
    shard_set = shard_dataset(settings, work)
    check_evaluation_set(settings, work, shard_set)  # before a training that could not be judged
    key = training.fingerprint(settings, shard_set)
    settings, why = find_reason(settings, work, shard_set, key, cause, tables or [])
    checkpoint = train_captioner(settings, work, shard_set)
    card = score_captioner(settings, work, shard_set, checkpoint)
    decision = promote_captioner(settings, work, shard_set, checkpoint, card, why)
    end_attempt(work, key)
    publish_report(shard_set, checkpoint, card, decision)
    return Chain(shard_set, checkpoint, card, decision)


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    config: ConfigFile = None,
    overrides: Overrides = None,
    work: PathText = "captionmill-work",
    cause: Cause = "",
    tables: Paths | None = None,
    on_promotion: Deployments | None = None,
    approval_days: Days = 30,
) -> dict[str, Any]:
    """Shard, train, score and promote; the records by stage. With nothing new it says so at once.

    Args:
        config: A YAML file of settings, read where the worker runs; none: the defaults.
        overrides: Settings to change, each as a.b=value.
        work: The work directory, which all output goes to.
        cause: Who or what asks (a schedule, a person); in the run's name, with what was found new.
        tables: Tables of bulk runs that are looked at for drift.
        on_promotion: Deployments, as flow/name, that are run with refresh=true by a new champion.
        approval_days: How long a candidate that needs a person's approval waits for it.
    """
    settings, root = load_config(config, overrides), Path(work)
    looked_at = [Path(table) for table in tables or []]
    with attended(root), in_turn(root, "retrain", "the work directory"):
        chain = run_chain(settings, root, cause, looked_at)
        wait_for_approval(chain.decision, approval_days)
        announce(root, chain.decision, on_promotion or [])
    return chain.to_json()
