"""How flow runs are named, and which failures of a task are worth another try."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from prefect import runtime
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.exceptions import TerminationSignal

from flows.orphan import outlive_worker
from flows.run_log import lines_to_prefect
from flows.turns import take, turn
from pipeline import log_lines
from pipeline.errors import BusyError, CaptionmillError, StoppedError, TrackingAwayError
from pipeline.promote.audit import this_user


def is_unattended() -> bool:
    """Whether this is a run of a deployment: started by a worker, with nobody to read an error."""
    return bool(runtime.deployment.id)


def _error(state: Any) -> Any:
    return state.result(raise_on_failure=False)


def may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a failure may be over soon, and nobody is there to run the same command again.

    What a killed run left behind still holds the directory, or MLflow's server is restarted.
    """
    return is_unattended() and isinstance(_error(state), (BusyError, TrackingAwayError))


def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Whether a failure may pass by itself: not one that a user has to mend, nor a bug's third."""
    unknown = not isinstance(_error(state), CaptionmillError)
    return may_pass(task, run, state) or (unknown and run.run_count <= 2)


# Markers on disk decide what is done, so Prefect keeps and caches no results.
UNCACHED: dict[str, Any] = {"persist_result": False, "cache_policy": NO_CACHE}

# For the stages: about four minutes for a directory to be freed, or a server to come back.
STAGE: dict[str, Any] = {
    **UNCACHED,
    "retries": 5,
    "retry_delay_seconds": [5, 15, 30, 60, 120],
    "retry_condition_fn": may_pass,
}

# For tasks that talk to a registry or a server, and are safe to run again.
REMOTE: dict[str, Any] = {**STAGE, "retry_condition_fn": worth_retrying}

RUNS = "flow-runs"
_HELD: dict[Path, IO[str]] = {}


def run_file(work: Path, flow_run: object) -> Path:
    """What a run holds for as long as its process lives; `captionmill watch` looks at it."""
    return work.absolute() / RUNS / f"{flow_run}.lock"


@contextlib.contextmanager
def in_turn(work: Path, name: str, what: str) -> Iterator[None]:
    """Runs of deployments that would be in each other's way wait here; a person's is told at once."""
    if not is_unattended():
        yield
        return
    with turn(work.absolute() / RUNS / f"{name}.turn", this_run(), what):
        yield


@contextlib.contextmanager
def attended(work: Path) -> Iterator[None]:
    """Make a deployment's run one that `captionmill watch` resumes if its process dies.

    It holds its file until the process has ended, so that a run is alive until the server knows how
    it went; its stages' lines are in its logs on the server. Stopped by SIGTERM with a checkpoint written, it has crashed rather than failed.
    """
    os.environ[log_lines.RUN] = str(runtime.flow_run.id)
    if not is_unattended():
        yield
        return
    path = run_file(work, runtime.flow_run.id)
    if path not in _HELD:
        _HELD[path] = take(path, this_run(), "this run's former process")
        outlive_worker()
    try:
        with lines_to_prefect():
            yield
    except StoppedError as error:
        raise TerminationSignal(signal.SIGTERM) from error


def is_done(find: Callable[..., object], *stage: object) -> bool:
    """Whether the finished output of a stage is there, as its `find_...` function tells."""
    try:
        find(*stage)
    except CaptionmillError:
        return False  # what else is wrong, the stage itself says
    return True


def this_run() -> str:
    """This flow run and its process, for those that wait for it."""
    return f"{runtime.flow_run.name} (process {os.getpid()} on {socket.gethostname()})"


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
