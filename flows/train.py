"""The flow `train`: a shard set into a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from flows.runs import STAGE, run_name
from pipeline import train as stage
from pipeline.config import Config, load_config
from pipeline.records import Checkpoint, ShardSet
from pipeline.shard import find_shard_set


@task(name="train-captioner", **STAGE)
def train_captioner(settings: Config, work: Path, shard_set: ShardSet) -> Checkpoint:
    """Run the stage; a run that was killed goes on where it stopped."""
    return stage.train(settings, work, shard_set)


@flow(name="train", flow_run_name=run_name, persist_result=False)
def train(
    config: str | None = None, overrides: list[str] | None = None, work: str = "captionmill-work"
) -> dict[str, Any]:
    """Train on the shard set of a YAML `config`; the Checkpoint record."""
    settings, root = load_config(config, overrides), Path(work)
    found = find_shard_set(settings, root)
    return train_captioner(settings, root, found).model_dump(mode="json")
