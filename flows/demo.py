"""The flow `demo`: a generated data set, the chain, and a table of captions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task

from flows.caption import caption_archives, publish_table
from flows.direct import demo_settings
from flows.retrain import run_chain
from flows.runs import STAGE, run_name
from pipeline import demo as stage
from pipeline.config import DemoConfig


@task(name="generate-dataset", **STAGE)
def generate_dataset(settings: DemoConfig, directory: Path) -> None:
    """Draw the pictures and write their captions."""
    stage.generate(settings, directory)


@flow(name="demo", flow_run_name=run_name, persist_result=False)
def demo(
    config: str | None = None, overrides: list[str] | None = None, work: str = "captionmill-work"
) -> dict[str, Any]:
    """Generate, retrain and caption, with the demo's settings; the records by stage."""
    root = Path(work)
    settings = demo_settings(root, config, overrides)
    generate_dataset(settings.demo, root / "demo")
    chain = run_chain(settings, root)
    table = caption_archives(settings, root, [root / "demo" / "archive"])
    publish_table(table)
    return {**chain.to_json(), "table": table.model_dump(mode="json")}
