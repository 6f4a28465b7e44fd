"""The connection to MLflow."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.errors import ConfigError

ARTIFACTS = "mlflow-artifacts"
FINGERPRINT = "captionmill.fingerprint"
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
MAKE_ROOM = "make room and run the same command again to go on"
INSTALL = "pip install 'mlflow>=3.13,<4'"

# What MLflow would otherwise send, draw or say; a user's own settings win.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Store:
    """MLflow's store of one work directory, or of MLFLOW_TRACKING_URI."""

    def __init__(self, work: Path) -> None:
        self.work = Path(work).absolute()
        self.database = self.work / "mlflow.db"
        given = os.environ.get("MLFLOW_TRACKING_URI")
        self.local = not given
        self.uri = given or f"sqlite:///{self.database}"

    @property
    def address(self) -> str:
        """The store's address, without a password."""
        return masked(self.uri)

    def unused(self) -> bool:
        """Whether nothing was ever stored here; answered without importing MLflow."""
        return self.local and not self.database.exists()

    @functools.cached_property
    def client(self) -> Any:
        """MLflow's client.

        Raises:
            ConfigError: MLflow is not installed or its store cannot be used.
        """
        if not installed():
            raise ConfigError(f"the model registry needs MLflow, which is missing: {INSTALL}")
        from mlflow.tracking import MlflowClient

        with self._usable():
            if self.local and not self.database.exists():
                self._create()
            client = MlflowClient(self.uri, os.environ.get("MLFLOW_REGISTRY_URI") or self.uri)
            with _few_retries():
                client.search_experiments(max_results=1)
            return client

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Raise ConfigError where the store refuses: it is away, damaged, read-only or its disk full."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError) as error:
            reason = _reason(error)
            way_out = (
                f"put a sound {self.database.name} in its place, or move it away: the stages' own "
                "work stays, and `captionmill retrain` registers it again"
                if self.local
                else "start it, or unset MLFLOW_TRACKING_URI to keep everything in the work directory"
            )
            if "disk is full" in reason:
                way_out = MAKE_ROOM
            raise ConfigError(
                f"MLflow at {self.address} cannot be used: {reason}; {way_out}"
            ) from error

    def _create(self) -> None:
        """Make the database whole before it has its name.

        MLflow takes seconds to write its schema; killed amid them it could never go on.
        """
        from mlflow.tracking import MlflowClient

        self.work.mkdir(parents=True, exist_ok=True)
        with open(self.work / ".mlflow.lock", "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # waits: another command may be making it
            if self.database.exists():
                return
            for stale in self.work.glob(f"{storage.TEMPORARY}mlflow-*"):
                shutil.rmtree(stale, ignore_errors=True)
            place = self.work / f"{storage.TEMPORARY}mlflow-{uuid.uuid4().hex}"
            place.mkdir()
            MlflowClient(f"sqlite:///{place / 'new.db'}").search_experiments(max_results=1)
            os.replace(place / "new.db", self.database)
            place.rmdir()

    def has_run(self, run_id: str) -> bool:
        """Whether the store has this run."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != MISSING:
                raise
            return False
        return True

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        """Log the finite ones: a NaN spoils what is logged beside it (an open bug of MLflow 3)."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        finite = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
        batch = [Metric(key, value, now, step) for key, value in finite.items()]
        if batch:
            self.client.log_batch(run_id, metrics=batch)

    def log_points(self, run_id: str, points: Sequence[tuple[str, float, int, int]]) -> None:
        """Log finite (key, value, milliseconds since 1970, step); equal ones are one row."""
        from mlflow.entities import Metric

        self.client.log_batch(run_id, metrics=[Metric(*point) for point in points])

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log params, a hundred a request, which is what MLflow takes."""
        from mlflow.entities import Param

        batch = [Param(key, value) for key, value in params.items()]
        for first in range(0, len(batch), 100):
            self.client.log_batch(run_id, params=batch[first : first + 100])


def _reason(error: Exception) -> str:
    """What MLflow or its database said, without SQLAlchemy's hint to programmers before it."""
    lines = str(error).splitlines() or [type(error).__name__]
    return next((line for line in lines if not line.startswith("(raised as")), lines[0])


def went_away(error: Exception) -> ConfigError | None:
    """The error for people where the store stopped answering amid the work; None for any other.

    It comes as MLflow's own exception, so that a flow's task tries again before a person is asked.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    lost = isinstance(error, MlflowException) and error.error_code in AWAY - {MISSING}
    if not lost and not isinstance(error, SQLAlchemyError):
        return None
    reason = _reason(error)
    full = "disk is full" in reason
    return ConfigError(
        f"MLflow stopped answering amid the work: {masked(reason)}; "
        + (MAKE_ROOM if full else "once it is back, run the same command again to go on")
    )


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    """For the first contact: a wrong address is told in seconds, not after MLflow's four minutes."""
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


MISSING = "RESOURCE_DOES_NOT_EXIST"
# MLflow's codes for 'it may work later'; a client that reaches nobody says INTERNAL_ERROR. A run
# that is not there any more was in a database that another took the place of.
AWAY = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    MISSING,
}


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
        with _few_retries():
            yield answer
    except MlflowException as error:
        # The class itself: its subclasses are statements that are wrong.
        damaged = type(error.__cause__) is DatabaseError
        deleted = "Current state is deleted" in str(error)
        if error.error_code not in AWAY and not damaged and not deleted:
            raise
        answer.given = False


@functools.cache
def installed() -> bool:
    """Whether MLflow can be imported; imports it, quietly (a second or so, once)."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    # Tracebacks of every statement that a database refuses; what it means is said by `answering`.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        if error.name != "mlflow":
            raise
        return False
    return True


def masked(uri: str) -> str:
    """`uri` without the password it may carry."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", uri)
