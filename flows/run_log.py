"""What the stages say, in the logs of the flow run on Prefect's server."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

from prefect import runtime
from prefect.logging.handlers import APILogHandler

from pipeline.log_lines import Line, listening

EVERY_SECONDS = 60.0
"""Between two lines that tell how far a stage is: enough for a log that is kept."""


@contextlib.contextmanager
def lines_to_prefect() -> Iterator[None]:
    """Send the stages' lines to the logs of this flow run; the terminal has them already."""
    logger = logging.Logger("captionmill", logging.INFO)  # of no hierarchy: no other handler
    logger.addHandler(APILogHandler())
    run = {
        "flow_run_id": str(runtime.flow_run.id),
        "flow_run_name": runtime.flow_run.name,
        "flow_name": runtime.flow_run.flow_name,
    }
    sent: dict[str, float] = {}

    def send(line: Line) -> None:
        now = time.monotonic()
        if line.repeated and now - sent.get(line.stage, float("-inf")) < EVERY_SECONDS:
            return
        if line.repeated:
            sent[line.stage] = now
        level = logging.getLevelNamesMapping().get(line.level.upper(), logging.INFO)
        logger.log(level, "%s: %s", line.stage, line.message, extra=run)

    with listening(send):
        yield
