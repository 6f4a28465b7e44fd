"""JSON files that hold a digest of the rest of themselves, so that a flipped byte is found.

For what nothing else tells: a receipt, by contrast, is checked against its part. Files of an
earlier version have no digest, and are taken as they are.
"""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from pipeline import storage
from pipeline.records import Record
from pipeline.remote import Location

KEY = "digest"


def seal(value: dict[str, Any]) -> dict[str, Any]:
    """The value with its digest."""
    return {**value, KEY: storage.fingerprint(value)}


def unseal(value: dict[str, Any]) -> dict[str, Any]:
    """The value without its digest.

    Raises:
        ValueError: the digest is another value's.
    """
    if KEY not in value:
        return value
    rest = {name: found for name, found in value.items() if name != KEY}
    if value[KEY] != storage.fingerprint(rest):
        raise ValueError("it is not what its digest was made of")
    return rest


class Sealed(Record):
    """A record with such a file."""

    def save(self, path: Location) -> None:
        """Commit the record to `path`."""
        storage.commit_json(path, seal(self.model_dump(mode="json")))

    @model_validator(mode="before")
    @classmethod
    def _unsealed(cls, value: Any) -> Any:
        return unseal(value) if isinstance(value, dict) else value
