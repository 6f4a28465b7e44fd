"""A flow that works until it is told to end, for what happens to runs meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import flow, task

from flows.runs import attended
from pipeline.progress import say


@flow(name="patient", flow_run_name="patient-{name}", persist_result=False)
def patient(name: str, work: str) -> None:
    """Note that it began, and end when a file says so.

    Args:
        name: Of this run's files.
        work: The directory of the files.
    """
    place = Path(work)
    with attended(place):
        say("patient", f"{name} begins")
        with open(place / f"{name}.began", "a", encoding="utf-8") as began:
            began.write("began\n")
        wait(place / f"{name}.end")
        say("patient", f"{name} ends")


@task(persist_result=False)
def wait(file: Path) -> None:
    """Until a file is there."""
    while not file.exists():
        time.sleep(0.1)
