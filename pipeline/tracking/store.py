"""The connection to MLflow."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.errors import ConfigError, TrackingAwayError
from pipeline.tracking.away import RemoteClient, few_retries, may_pass, reason

ARTIFACTS = "mlflow-artifacts"
FINGERPRINT = "captionmill.fingerprint"
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
        self.remote = self.uri.startswith(("http://", "https://"))

    def unused(self) -> bool:
        """Whether nothing was ever stored here; answered without importing MLflow."""
        return self.local and not self.database.exists()

    @functools.cached_property
    def client(self) -> Any:
        """MLflow's client.

        Raises:
            ConfigError: MLflow is not installed or its store cannot be used.
            TrackingAwayError: its server does not answer.
        """
        if not installed():
            raise ConfigError(f"the model registry needs MLflow, which is missing: {INSTALL}")
        from mlflow.tracking import MlflowClient

        with self._usable():
            if self.local and not self.database.exists():
                self._create()
            client: Any = MlflowClient(self.uri, os.environ.get("MLFLOW_REGISTRY_URI") or self.uri)
            with few_retries():
                client.search_experiments(max_results=1)
            return RemoteClient(client, self.uri) if self.remote else client

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Raise ConfigError where the store refuses: it is away, damaged, read-only or its disk full.

        A server that is away is TrackingAwayError.
        """
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError) as error:
            why = reason(error)
            way_out = (
                f"put a sound {self.database.name} in its place, or move it away: the stages' own "
                "work stays, and `captionmill retrain` registers it again"
                if self.local
                else "start it, or unset MLFLOW_TRACKING_URI to keep everything in the work directory"
            )
            if "disk is full" in why:
                way_out = "make room and run the same command again to go on"
            kind = TrackingAwayError if self.remote and may_pass(error) else ConfigError
            # Not `from error`: MLflow quotes the address, password and all, and a chain may be printed.
            raise kind(f"MLflow at {self.uri} cannot be used: {why}; {way_out}") from None

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
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
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


@functools.cache
def installed() -> bool:
    """Whether MLflow can be imported; imports it, quietly (a second or so, once)."""
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    # Every retry of a request; what does not answer in the end is said by us.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    # Tracebacks of every statement that a database refuses; what it means is said by `answering`.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        import mlflow  # noqa: F401
    except ImportError as error:
        if error.name != "mlflow":
            raise
        return False
    return True
