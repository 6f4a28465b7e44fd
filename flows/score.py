"""The flow `score`: a checkpoint and a split into a score card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from flows.direct import prepare_torch
from flows.runs import STAGE, run_name
from pipeline import score as stage
from pipeline.config import Config, load_config
from pipeline.records import Checkpoint, ScoreCard, ShardSet
from pipeline.shard import find_shard_set
from pipeline.train import find_checkpoint


@task(name="score-captioner", **STAGE)
def score_captioner(
    settings: Config, work: Path, shard_set: ShardSet, checkpoint: Checkpoint
) -> ScoreCard:
    """Run the stage."""
    prepare_torch(settings)
    return stage.score(settings, work, shard_set, checkpoint)


@flow(name="score", flow_run_name=run_name, persist_result=False)
def score(
    config: str | None = None, overrides: list[str] | None = None, work: str = "captionmill-work"
) -> dict[str, Any]:
    """Score the checkpoint of a YAML `config`; the ScoreCard record."""
    settings, root = load_config(config, overrides), Path(work)
    shard_set = find_shard_set(settings, root)
    checkpoint = find_checkpoint(settings, root, shard_set)
    return score_captioner(settings, root, shard_set, checkpoint).model_dump(mode="json")
