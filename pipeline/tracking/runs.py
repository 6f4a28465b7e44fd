"""Tracked runs: found again by fingerprint, so that a killed run goes on as itself."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, StoppedError
from pipeline.progress import say
from pipeline.tracking.away import answering
from pipeline.tracking.store import ARTIFACTS, FINGERPRINT, INSTALL, Store, installed


class Run:
    """A run that is tracked nowhere: the same methods, no effect."""

    run_id: str | None = None

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log the finite ones of `metrics` at `step` (a NaN spoils what is logged beside it)."""

    def log_points(self, points: Sequence[tuple[str, float, int, int]]) -> bool:
        """Log (key, value, milliseconds since 1970, step); False if the server does not answer.

        Points that the run has already are left as they are.
        """
        return True

    def log_dict(self, value: Mapping[str, Any], path: str) -> None:
        """Keep `value` as the run's artifact `path` (JSON or YAML by its ending)."""

    def log_text(self, text: str, path: str) -> bool:
        """Keep `text` as the run's artifact `path`; False if the server does not answer."""
        return True

    def log_artifacts(self, directory: Path, path: str | None = None) -> None:
        """Copy the files of `directory`, but hidden ones, to the run's artifacts below `path`."""

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set the run's tags."""


class TrackedRun(Run):
    """A run in MLflow."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self.identity = run_id

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:  # noqa: D102
        self.store.log_metrics(self.identity, metrics, step)

    def log_points(self, points: Sequence[tuple[str, float, int, int]]) -> bool:  # noqa: D102
        with answering() as answer:
            self.store.log_points(self.identity, points)
        return answer.given

    def log_dict(self, value: Mapping[str, Any], path: str) -> None:  # noqa: D102
        self.store.client.log_dict(self.identity, dict(value), path)

    def log_text(self, text: str, path: str) -> bool:  # noqa: D102
        with answering() as answer:
            self.store.client.log_text(self.identity, text, path)
        return answer.given

    def log_artifacts(self, directory: Path, path: str | None = None) -> None:  # noqa: D102
        for file in sorted(directory.iterdir()):
            if file.is_file() and not file.name.startswith("."):
                self.store.client.log_artifact(self.identity, str(file), path)

    def set_tags(self, tags: Mapping[str, object]) -> None:  # noqa: D102
        for key, value in tags.items():
            self.store.client.set_tag(self.identity, key, str(value))


class Runs(Store):
    """The runs of a store."""

    def require_usable(self, experiment: str) -> None:
        """Raise ConfigError where `run` would, before the work that it is to be told of."""
        if installed():
            with self._usable():
                self._experiment(experiment)

    @contextlib.contextmanager
    def run(
        self,
        experiment: str,
        name: str,
        fingerprint: str,
        params: Mapping[str, Any] | None = None,
    ) -> Iterator[Run]:
        """Go on with the experiment's run of this `fingerprint`, or start one called `name`.

        `params` may be nested. The run ends FINISHED; KILLED by the keyboard, SIGTERM or a
        system exit; FAILED by any other exception.
        """
        if not installed():
            _say_untracked()
            yield Run()
            return
        with self._usable():
            run_id = self._start(experiment, name, fingerprint, flatten(params or {}))
        status = "FAILED"
        try:
            yield TrackedRun(self, run_id)
            status = "FINISHED"
        except (KeyboardInterrupt, SystemExit, StoppedError):
            status = "KILLED"
            raise
        finally:
            with answering() as answer:
                self.client.set_terminated(run_id, status)
            if not answer.given:
                note = f"MLflow does not answer: run {run_id} stays as it is there"
                say("track", note, "warning")

    def _start(
        self, experiment: str, name: str, fingerprint: str, params: Mapping[str, str]
    ) -> str:
        identity = self._experiment(experiment)
        found = self.client.search_runs(
            [identity], f"tags.`{FINGERPRINT}` = '{fingerprint}'", max_results=1
        )
        if found:
            run = found[0]
            self.client.update_run(run.info.run_id, status="RUNNING", name=name)
        else:
            run = self.client.create_run(identity, run_name=name, tags={FINGERPRINT: fingerprint})
        # A param cannot change; the values of the run's first start stand.
        new = {key: value for key, value in params.items() if key not in run.data.params}
        self.log_params(run.info.run_id, new)
        return str(run.info.run_id)

    def _experiment(self, name: str) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is None:
            place = (self.work / ARTIFACTS / name).as_uri() if self.local else None
            return str(self.client.create_experiment(name, artifact_location=place))
        self._check_place(found.artifact_location)
        if found.lifecycle_stage == "deleted":
            self.client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _check_place(self, location: str) -> None:
        """MLflow keeps absolute places: what a moved or copied registry stores would land there."""
        if self.local and not location.startswith((self.work / ARTIFACTS).as_uri()):
            raise ConfigError(
                f"the registry in {self.work} was made elsewhere and keeps its files at {location}; "
                "its models can be used here, but to train, score or promote move the work "
                "directory back or give another --work"
            )


@functools.cache
def _say_untracked() -> None:
    say("track", f"mlflow is not installed: nothing is tracked ({INSTALL})", "warning")


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"a": {"b": 1}}` as `{"a.b": "1"}`; lists as JSON."""
    flat: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat
