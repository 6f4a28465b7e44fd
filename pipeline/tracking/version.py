"""One version of a registered model, and the place of a captioner among its files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import ModelNotFoundError

CAPTIONER = "artifacts/captioner"
"""Where a captioner's own files lie among a version's."""
EVIDENCE = "evidence"
"""Where the files lie that its decision rested on."""


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
    fetch_evidence: Callable[[ModelVersion], Path] = field(repr=False, compare=False)

    @functools.cached_property
    def root(self) -> Path:
        """Its files on this machine; downloaded once if the store is elsewhere.

        Raises:
            ModelNotFoundError: its files are gone.
        """
        return self.fetch(self)

    @functools.cached_property
    def evidence(self) -> Path:
        """The folder of what its decision rested on, there or not; of a store elsewhere a copy."""
        return self.fetch_evidence(self)

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


def gone(ref: str, place: Path) -> ModelNotFoundError:
    """The error of a version without files."""
    return ModelNotFoundError(
        f"{ref} is registered, but its files are gone from {place}; "
        "put them back, or train it again with `captionmill retrain`"
    )
