"""The flow `retrain`: shard -> train -> score -> promote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow

from flows.direct import Chain, check_scoring
from flows.promote import promote_captioner, publish_report
from flows.runs import run_name
from flows.score import score_captioner
from flows.shard import shard_dataset
from flows.train import train_captioner
from pipeline.config import Config, load_config


def run_chain(settings: Config, work: Path) -> Chain:
    """One task a stage, inside the flow run that calls it."""
    check_scoring(settings)
    shard_set = shard_dataset(settings, work)
    checkpoint = train_captioner(settings, work, shard_set)
    card = score_captioner(settings, work, shard_set, checkpoint)
    decision = promote_captioner(settings, work, shard_set, checkpoint, card)
    publish_report(shard_set, checkpoint, card, decision)
    return Chain(shard_set, checkpoint, card, decision)


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    config: str | None = None, overrides: list[str] | None = None, work: str = "captionmill-work"
) -> dict[str, Any]:
    """Retrain from a YAML `config`, with `a.b=value` overrides; the records by stage."""
    return run_chain(load_config(config, overrides), Path(work)).to_json()
