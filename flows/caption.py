"""The flow `caption`: archives of pictures into a table of captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact

from flows import direct
from flows.gpus import hold_gpus
from flows.parameters import Archives, ConfigFile, Overrides, PathText
from flows.progress import told_to_prefect
from flows.runs import REMOTE, STAGE, attended, in_turn, run_name
from flows.table_report import table_markdown
from pipeline.caption.sample import sample
from pipeline.config import Config, load_config
from pipeline.records import TableReport
from pipeline.remote import Location, location
from pipeline.storage import fingerprint


@task(name="caption-archives", **STAGE)
def caption_archives(
    settings: Config,
    work: Path,
    archives: Sequence[Location],
    table: Location | None = None,
    refresh: bool = False,
    prune: bool = False,
) -> TableReport:
    """Run the stage; units that an earlier run finished are not done again."""
    with hold_gpus(settings, work, None), told_to_prefect() as progress:
        return direct.caption_archives(
            settings, work, archives, table, refresh=refresh, prune=prune, progress=progress
        )


@task(name="publish-table", **REMOTE)
def publish_table(report: TableReport) -> None:
    """Show what the run did in Prefect's UI."""
    create_markdown_artifact(
        table_markdown(report, sample(location(report.table))),
        key="captionmill-caption",
        description=f"{report.captioned:,} captions in {report.table}",
    )


@flow(name="caption", flow_run_name=run_name, persist_result=False)
def caption(
    archives: Archives,
    table: PathText,
    config: ConfigFile = None,
    overrides: Overrides = None,
    work: PathText = "captionmill-work",
    refresh: bool = False,
    prune: bool = False,
) -> dict[str, Any]:
    """Caption archives of pictures into a table; the TableReport.

    Args:
        archives: Folders, tars, zips, Parquet files or lists of pictures; paths or s3:// addresses.
        table: The table's directory or s3:// prefix; new, or of an earlier run.
        config: A YAML file of settings, read where the worker runs; none: the defaults.
        overrides: Settings to change, each as a.b=value.
        work: The work directory, which all output goes to.
        refresh: Caption anew what another model or other settings captioned.
        prune: Remove the rows of pictures that the archives no longer hold, instead of marking them.
    """
    settings, root = load_config(config, overrides), Path(work)
    paths, target = [location(archive) for archive in archives], location(table)
    name = f"table-{fingerprint(str(target))}"
    with attended(root), in_turn(root, name, f"the table {table}"):
        made = caption_archives(settings, root, paths, target, refresh, prune)
        publish_table(made)
    return made.model_dump(mode="json")
