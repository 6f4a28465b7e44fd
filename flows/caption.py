"""The flow `caption`: archives of pictures into a table of captions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task

from flows import direct
from flows.runs import STAGE, run_name
from pipeline.config import Config, load_config
from pipeline.records import TableReport
from pipeline.remote import Location, location


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
    return direct.caption_archives(settings, work, archives, table, refresh=refresh, prune=prune)


@flow(name="caption", flow_run_name=run_name, persist_result=False)
def caption(
    archives: list[str],
    table: str,
    config: str | None = None,
    overrides: list[str] | None = None,
    work: str = "captionmill-work",
    refresh: bool = False,
    prune: bool = False,
) -> dict[str, Any]:
    """Caption `archives` into `table` with the settings of a YAML `config`; the TableReport.

    `refresh` captions anew what another model or other settings captioned; `prune` removes the
    rows of pictures that the archives no longer hold, instead of marking them.
    """
    settings = load_config(config, overrides)
    paths = [location(archive) for archive in archives]
    made = caption_archives(settings, Path(work), paths, location(table), refresh, prune)
    return made.model_dump(mode="json")
