"""Registered models: versions, tags and aliases."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ModelNotFoundError
from pipeline.tracking.files import Files, directory_fingerprint
from pipeline.tracking.lease import SUFFIX, lease, registered_model
from pipeline.tracking.store import FINGERPRINT
from pipeline.tracking.version import CAPTIONER, EVIDENCE, ModelVersion

PREFIX = "captionmill."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Tracker(Files):
    """Runs and the model registry of one work directory, or of MLFLOW_TRACKING_URI."""

    def register(
        self,
        name: str,
        directory: Path,
        run_id: str | None,
        tags: Mapping[str, object] | None = None,
    ) -> ModelVersion:
        """Copy `directory` to the store and make it a version of `name`, once.

        A directory of the same content is the version that it was before, and its files are put
        back if they are gone. They belong to the run `run_id`; where the store has no such
        run, one is made for them.

        Raises:
            ConfigError: MLflow is not installed or cannot be reached.
        """
        fingerprint = directory_fingerprint(directory)
        for known in self.versions(name):
            if known.fingerprint == fingerprint:
                path = self._files(known.source)
                if path is not None and directory_fingerprint(path / CAPTIONER) != fingerprint:
                    self.store_files(known.run_id, directory, known.folder)
                return known
        run_id = self._run_for(name, fingerprint, run_id)
        folder = f"{name}/{fingerprint}"
        self.store_files(run_id, directory, folder)
        source = f"{self.client.get_run(run_id).info.artifact_uri}/{folder}"
        if self._model(name) is None:
            self.client.create_registered_model(name)
        texts = {key: str(value) for key, value in (tags or {}).items()}
        made = self.client.create_model_version(
            name, source, run_id, tags={**texts, FINGERPRINT: fingerprint}
        )
        return self._version(made)

    def would_register(self, name: str, directory: Path) -> ModelVersion:
        """The version that `register` would give, without registering anything."""
        fingerprint = directory_fingerprint(directory)
        versions = self.versions(name)
        known = next((one for one in versions if one.fingerprint == fingerprint), None)
        return known or ModelVersion(
            name=name,
            version=1 + max((one.version for one in versions), default=0),
            fingerprint=fingerprint,
            tags={},
            source=str(directory),
            run_id="",
            fetch=lambda _version: directory,
            fetch_evidence=lambda _version: directory / EVIDENCE,
        )

    def _run_for(self, name: str, fingerprint: str, run_id: str | None) -> str:
        if run_id is not None and self.has_run(run_id):
            return run_id
        with self.run("register", f"{name}-{fingerprint}", fingerprint) as run:
            return str(run.run_id)

    def tag(self, version: ModelVersion, tags: Mapping[str, object]) -> None:
        """Set tags of a version."""
        self.tag_version(version.name, version.version, tags)

    def tag_version(self, name: str, version: int, tags: Mapping[str, object]) -> None:
        """Set tags of NAME/version."""
        for key, value in tags.items():
            self.client.set_model_version_tag(name, str(version), f"{PREFIX}{key}", str(value))

    def describe(self, version: ModelVersion, text: str) -> None:
        """Set a version's description."""
        self.client.update_model_version(version.name, str(version.version), description=text)

    def names(self) -> list[str]:
        """All registered models."""
        if self.unused():
            return []
        found = _pages(self.client.search_registered_models)
        return sorted(model.name for model in found if not model.name.endswith(SUFFIX))

    def leases(self) -> dict[str, float]:
        """By name, the models whose aliases somebody holds, and for how many seconds."""
        if self.unused():
            return {}
        models = self.client.search_registered_models(f"name LIKE '%{SUFFIX}'", max_results=1000)
        now = time.time()
        return {
            model.name.removesuffix(SUFFIX): now - model.creation_timestamp / 1000
            for model in models
        }

    def model_tags(self, name: str) -> dict[str, str]:
        """Tags of the registered model itself, without our prefix; empty if there is none."""
        model = self._model(name)
        tags: dict[str, str] = {} if model is None else model.tags
        return {key.removeprefix(PREFIX): value for key, value in tags.items()}

    def tag_model(self, name: str, tags: Mapping[str, object]) -> None:
        """Set tags of the registered model itself."""
        for key, value in tags.items():
            self.client.set_registered_model_tag(name, f"{PREFIX}{key}", str(value))

    @contextlib.contextmanager
    def exclusively(self, name: str) -> Iterator[None]:
        """Hold the aliases of `name` for the length of a move.

        A work directory's own registry is held by the promotion's lock on that directory; one
        that several machines share, by a lease in the registry itself.

        Raises:
            BusyError: somebody else holds the lease.
        """
        if self.local:
            yield
            return
        with lease(self.client, name):
            yield

    def versions(self, name: str) -> list[ModelVersion]:
        """All versions of `name`, oldest first; none if nothing has that name."""
        if self.unused() or not NAME.fullmatch(name):
            return []
        found = _pages(self.client.search_model_versions, f"name = '{name}'")
        return sorted(map(self._version, found), key=lambda version: version.version)

    def find(self, name: str, number: int | None) -> ModelVersion | None:
        """Version `number` of `name`; None where there is none, or no number."""
        return next((known for known in self.versions(name) if known.version == number), None)

    def champion(self, name: str) -> ModelVersion | None:
        """The version that `champion` points at; None where there is none."""
        return self.find(name, self.aliases(name).get("champion"))

    def aliases(self, name: str) -> dict[str, int]:
        """Alias to version number; empty if nothing has that name."""
        model = self._model(name)
        aliases: dict[str, str] = {} if model is None else model.aliases
        return {alias: int(version) for alias, version in sorted(aliases.items())}

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Point `alias` at `version`, or remove it (none)."""
        if version is not None:
            self.client.set_registered_model_alias(name, alias, str(version))
        elif alias in self.aliases(name):
            self.client.delete_registered_model_alias(name, alias)

    def resolve(
        self, name: str, alias: str | None = None, version: int | None = None
    ) -> ModelVersion:
        """The version that `alias` points at, or number `version`, with its files at hand.

        Raises:
            ModelNotFoundError: there is none; says what exists and the way out.
            ConfigError: MLflow is not installed or cannot be reached.
        """
        versions = {known.version: known for known in self.versions(name)}
        aliases = self.aliases(name)
        wanted = aliases.get(alias) if alias is not None else version
        if wanted is None or wanted not in versions:
            raise ModelNotFoundError(self._missing(name, alias, version, aliases, list(versions)))
        found = versions[wanted]
        found.directory  # noqa: B018  (missing files are an error of this call)
        return found

    def _missing(
        self,
        name: str,
        alias: str | None,
        version: int | None,
        aliases: Mapping[str, int],
        versions: list[int],
    ) -> str:
        asked = f"{name}@{alias}" if alias is not None else f"{name}/{version}"
        retrain = "run `captionmill retrain -c FILE` with the same --work first"
        otherwise = "name another, by NAME@alias, NAME/version or a captioner's directory"
        if not versions:
            others = self.names()
            there = f"it has: {', '.join(others)}" if others else "it is empty"
            lack = "no champion yet: " if alias == "champion" else ""
            return (
                f"{lack}no model {asked} in the registry {self.uri} ({there}); "
                f"{retrain}, or {otherwise}"
            )
        pointing = ", ".join(f"{key} -> {value}" for key, value in aliases.items()) or "none"
        numbers = ", ".join(map(str, versions))
        lack = "no champion yet" if alias == "champion" else "no such model"
        return f"{lack}: {asked}; {name} has versions {numbers}, aliases {pointing}; {otherwise}"

    def _version(self, found: Any) -> ModelVersion:
        return ModelVersion(
            name=found.name,
            version=int(found.version),
            fingerprint=found.tags.get(FINGERPRINT, ""),
            tags=dict(found.tags),
            source=str(found.source),
            run_id=str(found.run_id),
            fetch=self.fetch,
            fetch_evidence=self.fetch_evidence,
        )

    def _model(self, name: str) -> Any:
        """MLflow's registered model; None where nothing has that name."""
        if self.unused() or not NAME.fullmatch(name):
            return None
        return registered_model(self.client, name)


def _pages(search: Callable[..., Any], *filters: str) -> list[Any]:
    """Everything that one of MLflow's searches finds, which come page by page."""
    found: list[Any] = []
    token = None
    while True:
        page = search(*filters, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found
