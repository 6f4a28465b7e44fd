"""The flow `shard`: pictures and captions into WebDataset tars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from flows.runs import STAGE, run_name
from pipeline import shard as stage
from pipeline.config import Config, load_config
from pipeline.records import ShardSet


@task(name="shard-dataset", **STAGE)
def shard_dataset(settings: Config, work: Path) -> ShardSet:
    """Run the stage."""
    return stage.shard(settings, work)


@flow(name="shard", flow_run_name=run_name, persist_result=False)
def shard(
    config: str | None = None, overrides: list[str] | None = None, work: str = "captionmill-work"
) -> dict[str, Any]:
    """Shard the sources of a YAML `config`, with `a.b=value` overrides; the ShardSet record."""
    return shard_dataset(load_config(config, overrides), Path(work)).model_dump(mode="json")
