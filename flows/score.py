"""The flow `score`: a checkpoint and a split into a score card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from flows.direct import model_directory
from flows.gpus import hold_gpus
from flows.parameters import ConfigFile, ModelRef, Overrides, PathText, Split
from flows.runs import STAGE, attended, is_done, run_name
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
    if is_done(stage.find_score_card, settings, work, shard_set, checkpoint):
        return stage.score(settings, work, shard_set, checkpoint)
    with hold_gpus(settings, work):
        return stage.score(settings, work, shard_set, checkpoint)


@flow(name="score", flow_run_name=run_name, persist_result=False)
def score(
    config: ConfigFile = None,
    overrides: Overrides = None,
    work: PathText = "captionmill-work",
    model: ModelRef = None,
    split: Split = None,
) -> dict[str, Any]:
    """Score a captioner on a split of the settings' shards; the ScoreCard record.

    Args:
        config: A YAML file of settings, read where the worker runs; none: the defaults.
        overrides: Settings to change, each as a.b=value.
        work: The work directory, which all output goes to.
        model: NAME@alias, NAME/version or a directory; none: what `train` made with these settings.
        split: The split to caption and score; none: the settings' own.
    """
    chosen = [f"score.split={split}"] if split is not None else []
    settings, root = load_config(config, [*(overrides or []), *chosen]), Path(work)
    with attended(root):
        shard_set = find_shard_set(settings, root)
        if model is None:
            checkpoint = find_checkpoint(settings, root, shard_set)
        else:
            checkpoint = stage.as_checkpoint(model_directory(model, root))
        return score_captioner(settings, root, shard_set, checkpoint).model_dump(mode="json")
