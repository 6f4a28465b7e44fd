"""Registered models: versions, aliases, and their files."""

from __future__ import annotations

import contextlib
import functools
import re
import shutil
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.errors import ModelNotFoundError
from pipeline.tracking.lease import SUFFIX, lease
from pipeline.tracking.pyfunc import CAPTIONER, pyfunc_files
from pipeline.tracking.runs import Runs
from pipeline.tracking.store import ARTIFACTS, FINGERPRINT

PREFIX = "captionmill."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model."""

    name: str
    version: int
    fingerprint: str
    """Of the files it was registered with."""
    tags: dict[str, str]
    source: str
    run_id: str
    fetch: Callable[[ModelVersion], Path] = field(repr=False, compare=False)

    @functools.cached_property
    def root(self) -> Path:
        """Its files on this machine; downloaded once if the store is elsewhere."""
        return self.fetch(self)

    @property
    def directory(self) -> Path:
        """The captioner among its files: below `root`, or `root` itself in older registries.

        Raises:
            ModelNotFoundError: its files are gone.
        """
        inner = self.root / CAPTIONER
        if inner.is_dir():
            return inner
        if (self.root / "captioner.json").is_file():
            return self.root
        raise gone(self.ref, inner)

    @property
    def folder(self) -> str:
        """Where its files lie among its run's artifacts."""
        return f"{self.name}/{self.fingerprint}"

    @property
    def ref(self) -> str:
        """NAME/version."""
        return f"{self.name}/{self.version}"


class Tracker(Runs):
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
                if path is not None and not (path / CAPTIONER).is_dir():
                    self._store_files(known.run_id, directory, known.folder)
                return known
        run_id = self._run_for(name, fingerprint, run_id)
        folder = f"{name}/{fingerprint}"
        self._store_files(run_id, directory, folder)
        source = f"{self.client.get_run(run_id).info.artifact_uri}/{folder}"
        if name not in self._names():
            self.client.create_registered_model(name)
        texts = {key: str(value) for key, value in (tags or {}).items()}
        made = self.client.create_model_version(
            name, source, run_id, tags={**texts, FINGERPRINT: fingerprint}
        )
        return self._version(made)

    def _store_files(self, run_id: str, directory: Path, folder: str) -> None:
        """Copy a captioner, and what makes a pyfunc of it, to a run's artifacts."""
        client = self.client  # without MLflow this is where it is told
        with pyfunc_files(directory) as around:
            client.log_artifacts(run_id, str(around), folder)
        client.log_artifacts(run_id, str(directory), f"{folder}/{CAPTIONER}")

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
        )

    def _run_for(self, name: str, fingerprint: str, run_id: str | None) -> str:
        if run_id is not None and self.has_run(run_id):
            return run_id
        with self.run("register", f"{name}-{fingerprint}", fingerprint) as run:
            return str(run.run_id)

    def attach(self, version: ModelVersion, file: Path, folder: str) -> None:
        """Copy a file into `folder` of a version's files."""
        self.client.log_artifact(version.run_id, str(file), f"{version.folder}/{folder}")

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
        return sorted(name for name in self._names() if not name.endswith(SUFFIX))

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
        if self.unused() or name not in self._names():
            return {}
        tags: dict[str, str] = self.client.get_registered_model(name).tags
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
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_model_versions(f"name = '{name}'", page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return sorted(map(self._version, found), key=lambda version: version.version)

    def find(self, name: str, number: int | None) -> ModelVersion | None:
        """Version `number` of `name`; None where there is none, or no number."""
        return next((known for known in self.versions(name) if known.version == number), None)

    def champion(self, name: str) -> ModelVersion | None:
        """The version that `champion` points at; None where there is none."""
        return self.find(name, self.aliases(name).get("champion"))

    def aliases(self, name: str) -> dict[str, int]:
        """Alias to version number; empty if nothing has that name."""
        if self.unused() or name not in self._names():
            return {}
        aliases: dict[str, str] = self.client.get_registered_model(name).aliases
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
        otherwise = "give --model another NAME@alias, NAME/version or a checkpoint directory"
        if not versions:
            others = [] if self.unused() else sorted(self._names())
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
            fetch=self._fetch,
        )

    def _fetch(self, version: ModelVersion) -> Path:
        local = self._files(version.source)
        if local is not None:
            if not local.is_dir():
                raise gone(version.ref, local)
            return local
        target = self.work / "models" / version.name / str(version.version)
        if not target.is_dir():
            with storage.commit_directory(target) as new:
                # MLflow puts the files into `new`, or into a folder of their name in there.
                folder = Path(
                    self.client.download_artifacts(version.run_id, version.folder, str(new))
                )
                inner = folder.relative_to(new).parts
                if inner:
                    for path in folder.iterdir():
                        path.rename(new / path.name)
                    shutil.rmtree(new / inner[0])
        return target

    def local_files(self, version: ModelVersion) -> Path | None:
        """Where a version's files lie in this work directory, without fetching them."""
        path = self._files(version.source)
        return path if path is not None and path.is_dir() else None

    def _files(self, source: str) -> Path | None:
        """Where a version's files lie on this machine; none if the store is elsewhere.

        MLflow keeps absolute addresses. In a work directory that was moved or copied the
        files are those that came along with it.
        """
        path = local_path(source)
        if path is not None and self.local and ARTIFACTS in path.parts:
            below = path.parts[::-1].index(ARTIFACTS) + 1
            here = self.work.joinpath(*path.parts[-below:])
            return here if here.is_dir() else path
        return path

    def _names(self) -> set[str]:
        return {model.name for model in self.client.search_registered_models(max_results=1000)}


def gone(ref: str, place: Path) -> ModelNotFoundError:
    """The error of a version without files."""
    return ModelNotFoundError(
        f"{ref} is registered, but its files are gone from {place}; "
        "put them back, or train it again with `captionmill retrain`"
    )


def directory_fingerprint(directory: Path) -> str:
    """Of the names and bytes of all files below `directory`."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return storage.fingerprint(
        {path.relative_to(directory).as_posix(): storage.sha256_file(path) for path in files}
    )


def local_path(source: str) -> Path | None:
    """The path that a `file:` URI or a plain path names; none for any other URI."""
    parsed = urllib.parse.urlsplit(source)
    if parsed.scheme == "file":
        return Path(urllib.request.url2pathname(parsed.path))
    return None if parsed.scheme else Path(source)
