"""The flow `shard`: pictures and captions into WebDataset tars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from flows.parameters import ConfigFile, Overrides, PathText
from flows.runs import STAGE, attended, run_name
from pipeline import shard as stage
from pipeline.config import Config, load_config
from pipeline.records import ShardSet


@task(name="shard-dataset", **STAGE)
def shard_dataset(settings: Config, work: Path) -> ShardSet:
    """Run the stage."""
    return stage.shard(settings, work)


@flow(name="shard", flow_run_name=run_name, persist_result=False)
def shard(
    config: ConfigFile = None, overrides: Overrides = None, work: PathText = "captionmill-work"
) -> dict[str, Any]:
    """Shard the sources of the settings; the ShardSet record.

    Args:
        config: A YAML file of settings, read where the worker runs; none: the defaults.
        overrides: Settings to change, each as a.b=value.
        work: The work directory, which all output goes to.
    """
    with attended(Path(work)):
        return shard_dataset(load_config(config, overrides), Path(work)).model_dump(mode="json")
