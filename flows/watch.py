"""The command `captionmill watch`: runs whose worker died are found and started again."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import click

from flows.options import work_option
from flows.orchestrator import quiet_prefect, server
from pipeline.errors import ServerError
from pipeline.progress import say

ALIVE_SECONDS = 60.0
"""Between two events that say that this process is there."""


@click.command()
@click.option(
    "--every",
    default=15.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0.1, 3600),
    help="Between two looks.",
)
@click.option(
    "--attempts",
    default=5,
    show_default=True,
    metavar="N",
    type=click.IntRange(0, 1000),
    help="Restarts of a run in 24 hours; then it has failed.",
)
@click.option(
    "--delay",
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(0, 900),
    help="Before the first restart; doubled with each, up to 15 minutes.",
)
@click.option("--once", is_flag=True, help="Look once and end.")
@work_option
def watch(every: float, attempts: int, delay: float, once: bool, work: Path) -> None:
    """Restart the runs whose worker died.

    Runs of the deployments, on any machine that shares the work directory: a killed worker or
    machine, a full memory, a lost power supply. They go on where they stopped. Keep one running
    beside the workers; a second one waits until the first is gone.

    \b
    Examples:
      captionmill watch
      captionmill watch --work captionmill-work --attempts 3 --every 30
      captionmill watch --once
    """
    quiet_prefect()
    from flows.dead_runs import Policy
    from flows.runs import RUNS
    from flows.turns import turn

    root = work.absolute()
    policy = Policy(attempts, timedelta(seconds=delay))
    with turn(root / RUNS / "watch.turn", "another captionmill watch", "its turn"):
        if once:
            for line in look(root, policy):
                say("watch", line)
            return
        keep_looking(lambda: look(root, policy), every)


def look(work: Path, policy: object) -> list[str]:
    """One look at everything; what was done, and what is odd."""
    from flows.dead_runs import Policy, clear_away, look_after, unserved_pools

    assert isinstance(policy, Policy)
    with server() as client:
        lines = look_after(client, work, policy)
        lines += unserved_pools(client)
        clear_away(client, work)
    return lines


def keep_looking(look: Callable[[], list[str]], every: float) -> None:
    """Look until interrupted; a line is said when it is new, and again once it was away."""
    from prefect.events import emit_event

    from flows.notifications import WATCHING

    said: list[str] = []
    told = float("-inf")
    while True:
        try:
            lines = look()
        except ServerError as error:
            lines = [str(error)]
        for line in lines:
            if line not in said:
                say("watch", line)
        if said and not lines:
            say("watch", "nothing is odd any more")
        said = lines
        if time.monotonic() - told >= ALIVE_SECONDS:
            told = time.monotonic()
            emit_event(WATCHING, resource={"prefect.resource.id": "captionmill.watch"})
        time.sleep(every)
