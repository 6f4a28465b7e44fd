"""A tracking server that does not answer: which requests do without it, and what the others raise."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from typing import Any

from pipeline.errors import TrackingAwayError

RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"

# MLflow's codes for 'it may work later'; a client that reaches nobody says INTERNAL_ERROR.
PASSING = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
}


class RemoteClient:
    """MLflow's client of a server: a request that MLflow gave up on raises TrackingAwayError.

    MLflow makes a request again for about four minutes before it gives up.
    """

    def __init__(self, client: Any, address: str) -> None:
        self._client, self._address = client, address

    def __getattr__(self, name: str) -> Any:
        """The client's method, with our error."""
        method = getattr(self._client, name)

        @functools.wraps(method)
        def call(*arguments: Any, **named: Any) -> Any:
            from mlflow.exceptions import MlflowException
            from requests.exceptions import RequestException

            try:
                return method(*arguments, **named)
            except (MlflowException, RequestException) as error:
                if not may_pass(error):
                    raise
                raise TrackingAwayError(
                    f"MLflow at {self._address} does not answer: {reason(error)}; when it does, run "
                    "the same command again to go on"
                ) from None  # MLflow quotes the address, password and all

        return call


def may_pass(error: Exception) -> bool:
    """Whether a request may succeed when it is made again later."""
    from requests.exceptions import RequestException

    code = getattr(error, "error_code", None)
    return isinstance(error, RequestException) or code in PASSING


def reason(error: Exception) -> str:
    """What an error says, in a line: of a connection that failed the system's words alone."""
    # SQLAlchemy may put a hint to programmers before what the database said.
    lines = str(error).splitlines() or [type(error).__name__]
    first = next((line for line in lines if not line.startswith("(raised as")), lines[0])
    system = re.search(r"\[Errno -?\d+\] ([\w ]+)", first)
    return system[1] if system else first


@contextlib.contextmanager
def few_retries() -> Iterator[None]:
    """For what is told or done without in seconds, not after MLflow's four minutes."""
    given = os.environ.get(RETRIES)
    os.environ.setdefault(RETRIES, "2")
    try:
        yield
    finally:
        if given is None:
            del os.environ[RETRIES]


class Answer:
    """Whether a server answered."""

    given = True


@contextlib.contextmanager
def answering() -> Iterator[Answer]:
    """Requests that may fail because nobody answers: after few retries `given` is False.

    A database file that was damaged under a run, or a run that somebody deleted, takes as little
    as a server that is away.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import DatabaseError

    answer = Answer()
    try:
        with few_retries():
            yield answer
    except TrackingAwayError:
        answer.given = False
    except MlflowException as error:
        # The class itself: its subclasses are statements that are wrong.
        damaged = type(error.__cause__) is DatabaseError
        deleted = "Current state is deleted" in str(error)
        # A run that is not there any more was in a database that another took the place of.
        replaced = error.error_code == "RESOURCE_DOES_NOT_EXIST"
        if not (may_pass(error) or damaged or deleted or replaced):
            raise
        answer.given = False
