"""How flow runs are named, and which failures of a task are worth another try."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import runtime
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client

from pipeline.errors import CaptionmillError
from pipeline.promote.audit import this_user

# Markers on disk decide what is done, so Prefect keeps and caches no results.
STAGE: dict[str, Any] = {"persist_result": False, "cache_policy": NO_CACHE}


def worth_retrying(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failure may pass by itself: not one that a user has to mend."""
    return not isinstance(state.result(raise_on_failure=False), CaptionmillError)


# For tasks that talk to a registry or a server, and are safe to run again.
REMOTE: dict[str, Any] = {
    **STAGE,
    "retries": 2,
    "retry_delay_seconds": [5, 30],
    "retry_condition_fn": worth_retrying,
}


def run_name(reason: str = "") -> str:
    """The flow, the configuration file's stem, why, and the time: retrain-flickr8k-20261121-0930."""
    flow = str(runtime.flow_run.flow_name)
    config = runtime.flow_run.parameters.get("config")
    started = datetime.now().astimezone().strftime("%Y%m%d-%H%M")
    parts = [flow, Path(config).stem if config else flow, reason, started]
    return "-".join(dict.fromkeys(filter(None, parts)))


def name_run(reason: str) -> None:
    """Put the reason of this flow run into its name, now that it is known."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(runtime.flow_run.id, name=run_name(reason))


def asked_by() -> str:
    """Who or what asked for what this run does: the run by name, and the user it runs as."""
    return f"flow run {runtime.flow_run.name} ({this_user()})"
