"""The flow `train`: a shard set into a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from flows.gpus import hold_gpus
from flows.parameters import ConfigFile, Overrides, PathText
from flows.runs import STAGE, attended, is_done, run_name
from pipeline import train as stage
from pipeline.config import Config, load_config
from pipeline.records import Checkpoint, ShardSet
from pipeline.shard import find_shard_set
from pipeline.train.launch import devices_asked_for


@task(name="train-captioner", **STAGE)
def train_captioner(settings: Config, work: Path, shard_set: ShardSet) -> Checkpoint:
    """Run the stage; a run that was killed goes on where it stopped."""
    if is_done(stage.find_checkpoint, settings, work, shard_set):
        return stage.train(settings, work, shard_set)
    with hold_gpus(settings, work, devices_asked_for(settings)):
        return stage.train(settings, work, shard_set)


@flow(name="train", flow_run_name=run_name, persist_result=False)
def train(
    config: ConfigFile = None, overrides: Overrides = None, work: PathText = "captionmill-work"
) -> dict[str, Any]:
    """Train on the shard set of the settings; the Checkpoint record.

    Args:
        config: A YAML file of settings, read where the worker runs; none: the defaults.
        overrides: Settings to change, each as a.b=value.
        work: The work directory, which all output goes to.
    """
    settings, root = load_config(config, overrides), Path(work)
    with attended(root):
        found = find_shard_set(settings, root)
        return train_captioner(settings, root, found).model_dump(mode="json")
