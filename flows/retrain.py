"""The flow `retrain`: shard -> train -> score -> promote, with the reason in the run's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from flows.direct import Chain, check_scoring
from flows.promote import promote_captioner, publish_report, wait_for_approval
from flows.runs import STAGE, name_run, run_name
from flows.score import score_captioner
from flows.shard import shard_dataset
from flows.train import train_captioner
from pipeline import train as training
from pipeline.config import Config, load_config
from pipeline.errors import DataError
from pipeline.progress import say
from pipeline.promote.evaluation_set import check_evaluation_set
from pipeline.promote.need import reasons, with_start
from pipeline.records import ShardSet


@task(name="find-reason", **STAGE)
def find_reason(
    settings: Config, work: Path, shard_set: ShardSet, cause: str, tables: list[Path]
) -> tuple[Config, str]:
    """Settings with what training starts from, and why there is a training at all."""
    key = training.fingerprint(settings, shard_set)
    settings = with_start(settings, work, key)
    try:
        training.find_checkpoint(settings, work, shard_set)
        done = True
    except DataError:
        done = False
    found = reasons(settings, work, shard_set, done=done, tables=tables)
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
    settings, why = find_reason(settings, work, shard_set, cause, tables or [])
    checkpoint = train_captioner(settings, work, shard_set)
    card = score_captioner(settings, work, shard_set, checkpoint)
    decision = promote_captioner(settings, work, shard_set, checkpoint, card, why)
    publish_report(shard_set, checkpoint, card, decision)
    wait_for_approval(decision)
    return Chain(shard_set, checkpoint, card, decision)


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    config: str | None = None,
    overrides: list[str] | None = None,
    work: str = "captionmill-work",
    cause: str = "",
    tables: list[str] | None = None,
) -> dict[str, Any]:
    """Retrain from a YAML `config`, with `a.b=value` overrides; the records by stage.

    `cause` says who or what asked (a schedule, a person); it stands in the run's name with what was
    found new. `tables` of bulk runs are looked at for drift.
    """
    settings = load_config(config, overrides)
    return run_chain(settings, Path(work), cause, [Path(t) for t in tables or []]).to_json()
