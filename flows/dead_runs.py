"""Runs whose process died: told from those that are alive, and started again, a bounded number of times.

A worker that is killed leaves its runs 'Running' on the server for good. Whether such a run is alive
is not asked of the server, which cannot know, nor of a clock: its process holds a file in the work
directory (`flows.runs.attended`) that the kernel frees when the process ends. So a server that was
away, a slow machine or a lost message never makes a live run look dead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from flows.deployments import TAG
from flows.notifications import RESTARTING
from flows.runs import run_file
from flows.turns import is_held

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

STARTING = timedelta(seconds=30)
"""From the state Running to the held file, and from a click on Cancel to an ended process."""
PENDING = timedelta(minutes=5)
"""From a worker's taking a run up to its running: the imports, on a busy machine."""
MEMORY = timedelta(hours=24)
"""How long a restart counts, and how long after a crash a run is still started again."""
LONGEST_DELAY = timedelta(minutes=15)
PAGE = 200
"""Runs that a server gives at once."""


@dataclass(frozen=True)
class Policy:
    """How often a run is started again, and when first."""

    attempts: int
    """Restarts in 24 hours; the next death ends the run as failed."""
    delay: timedelta
    """Before the first restart; doubled with each."""
    pending: timedelta = PENDING

    def after(self, restarts: int) -> timedelta:
        """How long to wait before the next restart."""
        return min(self.delay * (1 << min(restarts, 20)), LONGEST_DELAY)


def look_after(client: SyncPrefectClient, work: Path, policy: Policy) -> list[str]:
    """Start dead runs of `work` again, settle what was cancelled, and say what was done or is odd."""
    return [
        line
        for run in open_runs(client)
        if (line := _look_after_one(client, run, work, policy)) is not None
    ]


def open_runs(client: SyncPrefectClient) -> list[FlowRun]:
    """Our deployments' runs that a process should be working on, or has crashed on lately."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
        FlowRunFilterTags,
    )
    from prefect.client.schemas.objects import StateType

    kinds = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING, StateType.CRASHED]
    wanted = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[TAG]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=kinds)),
    )
    found: list[FlowRun] = []
    while True:
        page = client.read_flow_runs(flow_run_filter=wanted, limit=PAGE, offset=len(found))
        found += page
        if len(page) < PAGE:
            return [run for run in found if run.state is not None and _is_recent(run.state)]


def _is_recent(state: State[object]) -> bool:
    return not state.is_crashed() or _age(state) < MEMORY


def _look_after_one(
    client: SyncPrefectClient, run: FlowRun, work: Path, policy: Policy
) -> str | None:
    if run.parameters.get("work") != str(work):
        return (
            f"{run.name} works in {run.parameters.get('work')}, not here; a `captionmill watch` with "
            "that --work looks after it"
        )
    assert run.state is not None
    if _age(run.state) < _patience(run.state, policy):
        return None
    file = run_file(work, run.id)
    if is_held(file):
        return None
    # Its process has ended, so the server knows by now whatever it had to say.
    now = client.read_flow_run(run.id)
    if now.state is None or now.state.id != run.state.id:
        return None
    if run.state.is_running() and not file.exists():
        return (
            f"{run.name} is running and has left no trace in {file.parent}: its worker has another "
            "disk under that path; run `captionmill watch` there"
        )
    _end_tasks(client, now)
    return _settle(client, now, now.state, policy)


def _patience(state: State[object], policy: Policy) -> timedelta:
    if state.is_crashed():
        return timedelta(0)
    return policy.pending if state.is_pending() else STARTING


def _end_tasks(client: SyncPrefectClient, run: FlowRun) -> None:
    """What a dead process was at is over: the next has tasks of its own."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterId,
        TaskRunFilter,
        TaskRunFilterState,
        TaskRunFilterStateType,
    )
    from prefect.client.schemas.objects import StateType
    from prefect.states import Crashed

    kinds = TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    left = client.read_task_runs(
        flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run.id])),
        task_run_filter=TaskRunFilter(state=TaskRunFilterState(type=kinds)),
    )
    for task in left:
        message = "Its process died."
        client.set_task_run_state(task.id, Crashed(message=message), force=True)


def _settle(client: SyncPrefectClient, run: FlowRun, state: State[object], policy: Policy) -> str:
    from prefect.states import Cancelled, Failed, Scheduled

    if state.is_cancelling():
        message = "Cancelled; its process had ended before."
        client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
        return f"{run.name} was to be cancelled, and its process is gone: cancelled"
    restarts = sum(
        known.name == RESTARTING and _age(known) < MEMORY
        for known in client.read_flow_run_states(run.id)
    )
    died = f"its process died while the run was {state.name.lower() if state.name else 'open'}"
    if restarts >= policy.attempts:
        message = (
            f"Given up: {died}, after {restarts} restarts in 24 hours. See the worker's log for why; "
            "Retry in the UI goes on where it stopped."
        )
        client.set_flow_run_state(run.id, Failed(message=message), force=True)
        return f"{run.name}: {died}; given up after {restarts} restarts"
    delay = policy.after(restarts)
    message = f"Restart {restarts + 1} of {policy.attempts}: {died}; it goes on where it stopped."
    again: State[None] = Scheduled(
        name=RESTARTING, scheduled_time=datetime.now(UTC) + delay, message=message
    )
    client.set_flow_run_state(run.id, again, force=True)
    seconds = delay.total_seconds()
    return f"{run.name}: {died}; restart {restarts + 1} of {policy.attempts} in {seconds:.0f} s"


def unserved_pools(client: SyncPrefectClient) -> list[str]:
    """The work pools whose runs are due and that no worker serves, each as a line."""
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterNextScheduledStartTime,
        FlowRunFilterState,
        FlowRunFilterStateType,
        FlowRunFilterTags,
    )
    from prefect.client.schemas.objects import StateType, WorkerStatus
    from prefect.types._datetime import now

    due = client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            tags=FlowRunFilterTags(all_=[TAG]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            next_scheduled_start_time=FlowRunFilterNextScheduledStartTime(
                before_=now("UTC") - STARTING
            ),
        ),
        limit=PAGE,
    )
    waiting: dict[str, int] = {}
    for run in due:
        if run.work_pool_name:
            waiting[run.work_pool_name] = waiting.get(run.work_pool_name, 0) + 1
    return [
        f"work pool {pool}: {count} run{'s' if count > 1 else ''} due and no worker online; start one: "
        f"prefect worker start --pool {pool}"
        for pool, count in sorted(waiting.items())
        if not any(
            worker.status == WorkerStatus.ONLINE
            for worker in client.read_workers_for_work_pool(pool)
        )
    ]


def clear_away(client: SyncPrefectClient, work: Path) -> None:
    """Delete the files of runs that are over, a day after."""
    from uuid import UUID

    from prefect.exceptions import ObjectNotFound

    for file in run_file(work, "any").parent.glob("*.lock"):
        modified = datetime.fromtimestamp(file.stat().st_mtime, UTC)
        if datetime.now(UTC) - modified < MEMORY or is_held(file):
            continue
        try:
            state = client.read_flow_run(UUID(file.stem)).state
        except (ObjectNotFound, ValueError):
            state = None
        if state is None or state.is_final():
            file.unlink()


def _age(state: State[object]) -> timedelta:
    assert state.timestamp is not None
    return datetime.now(UTC) - state.timestamp
