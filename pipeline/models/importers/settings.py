"""A section of a Hugging Face configuration, read strictly: a value that we cannot honour is refused.

Keys that a checkpoint leaves out have the defaults of the configuration class that wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.errors import ModelError

LARGEST = 10_000_000
"""Of anything: beyond it a file is damaged, and memory would be taken in vain."""


class Settings:
    """One section and where it stands, for messages."""

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self.values = values
        self.place = place

    def get(self, key: str, default: Any = None) -> Any:
        """The value as it is; `default` also where the checkpoint says null."""
        found = self.values.get(key)
        return default if found is None else found

    def integer(self, key: str, default: int | None = None) -> int:
        """A whole number.

        Raises:
            ModelError: it is none, or absent without a default.
        """
        value = self.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ModelError(f"{self.place}: {key} = {value!r} is not a whole number")
        return value

    def size(self, key: str, default: int) -> int:
        """A number of layers, channels or the like.

        Raises:
            ModelError: no whole number from 1 to `LARGEST`.
        """
        value = self.integer(key, default)
        if not 1 <= value <= LARGEST:
            raise ModelError(f"{self.place}: {key} = {value} is no size (1 to {LARGEST:,})")
        return value

    def number(self, key: str, default: float) -> float:
        """A number.

        Raises:
            ModelError: it is none.
        """
        value = self.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise ModelError(f"{self.place}: {key} = {value!r} is not a number")
        return float(value)

    def require(self, key: str, *allowed: Any) -> None:
        """Check that a setting is the first of `allowed` (the default), or another of them.

        Raises:
            ModelError: it is something else.
        """
        value = self.get(key, allowed[0])
        if value not in allowed:
            choices = ", ".join(repr(choice) for choice in allowed)
            raise ModelError(
                f"{self.place}: {key} = {value!r} is not supported; supported: {choices}"
            )
