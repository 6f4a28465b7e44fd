"""A captions file that is one JSON object: its lists and values, each checked as it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.errors import AnnotationError
from pipeline.json_text import kind as kind_of
from pipeline.shard.row import parse_row, read_text


class JsonFile:
    """The parsed file; `what` it should be is for messages.

    Raises:
        AnnotationError: from every method, of a file or a part of it that is not as it must be.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what
        self._first: dict[tuple[str, Any], str] = {}
        self.tree = parse_row(read_text(path), path)

    def entries(self, key: str, *others: str) -> list[Any]:
        """The list at `key` of the whole; `others` are further keys it must have."""
        if not isinstance(self.tree, dict):
            wanted = " and ".join(f"`{name}`" for name in sorted((key, *others), reverse=True))
            raise AnnotationError(
                f"{self.path} must hold an object with {wanted}, not {kind_of(self.tree)}"
            )
        return self.entries_in(str(self.path), self.tree, key)

    def entries_in(self, place: str, entry: dict[str, Any], key: str) -> list[Any]:
        """The list at `key` of an object."""
        if key not in entry:
            known = ", ".join(entry) or "none"
            raise AnnotationError(
                f"{self._at(place)} has no key `{key}`; is it {self.what}? its keys: {known}"
            )
        value: Any = entry[key]
        if not isinstance(value, list):
            raise AnnotationError(
                f"{self._at(place)}: `{key}` must be a list, not {kind_of(value)}"
            )
        return value

    def value(self, place: str, entry: Any, key: str, kind: type) -> Any:
        """The text or whole number at `key` of an object."""
        if not isinstance(entry, dict):
            raise AnnotationError(f"{self.path}: {place} must be an object, not {kind_of(entry)}")
        if key not in entry:
            raise AnnotationError(f"{self.path}: {place} has no key `{key}`; is it {self.what}?")
        value = entry[key]
        empty = key in ("file_name", "filename") and not value
        if not isinstance(value, kind) or isinstance(value, bool) or empty:
            wanted = "a whole number" if kind is int else "a text"
            raise AnnotationError(f"{self.path}: {place}.{key} must be {wanted}, not {value!r:.80}")
        return value

    def unique(self, place: str, key: str, value: Any) -> None:
        """Refuse a value that another place has already."""
        first = self._first.setdefault((key, value), place)
        if first != place:
            raise AnnotationError(
                f"{self.path}: {place}.{key} is {value!r}, which {first} has already"
            )

    def _at(self, place: str) -> str:
        return place if place == str(self.path) else f"{self.path}: {place}"
