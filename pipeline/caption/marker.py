"""What makes a directory a caption table, and what its rows were made with."""

from __future__ import annotations

from typing import Any

from pipeline.caption.schema import SCHEMA_VERSION
from pipeline.caption.sealed import Sealed
from pipeline.records import Record

FORMAT = "captionmill caption table"
FORMAT_VERSION = 2

NUMERICS = frozenset({"batch_size", "device", "threads"})
"""Settings that move the last bits of a score, and belong to the machine rather than the wish."""


class Format(Record):
    """`_table.json`: the directory is ours, and how it is laid out."""

    format: str = FORMAT
    format_version: int = FORMAT_VERSION
    schema_version: int = SCHEMA_VERSION


class Origin(Sealed):
    """`_compact.json`: what a compacted table was made from; committed before all else."""

    content: str
    """SHA-256 over the parts that were read."""
    rows: int
    """Most rows a part."""


class Model(Record):
    """A captioner that made rows."""

    ref: str
    name: str
    version: str
    fingerprint: str

    @property
    def title(self) -> str:
        """Name, version and content, for people."""
        return f"{self.name} {self.version} ({self.fingerprint})"


class Marker(Sealed):
    """`_recipes/<recipe>.json`: the model and the settings that rows of this recipe were made with."""

    model: Model
    recipe: str
    """Fingerprint of `settings` and of the model."""
    settings: dict[str, Any]
    """Everything that moves a row: decode, transform, search, wording, batch size, numerics."""

    def differences(self, other: Marker) -> list[str]:
        """What makes rows of this recipe stale beside `other`, as `name: this, not that`.

        A model's reference does not count, nor do settings that only move last bits.
        """
        settings = sorted({*self.settings, *other.settings} - NUMERICS)
        pairs = {name: (self.settings.get(name), other.settings.get(name)) for name in settings}
        if self.model.fingerprint != other.model.fingerprint:
            pairs = {"model": (self.model.title, other.model.title), **pairs}
        return [f"{name}: {mine}, not {its}" for name, (mine, its) in pairs.items() if mine != its]

    def is_stale(self, target: Marker) -> bool:
        """Whether captioning by `target` could give other captions."""
        return self.recipe != target.recipe and bool(self.differences(target))
