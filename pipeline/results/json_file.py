"""A JSON file as a person hands it over: read whole, and every complaint names file and place."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.json_text import check_characters, decode_text, kind, parse_json

ImageId = int | str


@dataclass(frozen=True)
class JsonFile:
    """A file's JSON value, and the means to complain about a part of it.

    `error` is the class of error that this kind of file raises.
    """

    path: Path
    value: Any
    sha256: str
    error: type[DataError]

    @classmethod
    def read(cls, path: Path, error: type[DataError]) -> JsonFile:
        """Read `path`.

        Raises:
            error: it is missing, cannot be read, is not UTF-8 or not JSON; names the line.
        """
        try:
            data = path.read_bytes()
        except OSError as reason:
            raise error(f"cannot read {path}: {reason.strerror}") from None
        value = parse_json(decode_text(data, path, error), path, error)
        return cls(path, value, hashlib.sha256(data).hexdigest(), error)

    def refuse(self, message: str) -> DataError:
        """The error that says `message` of this file, to be raised."""
        return self.error(f"{self.path}: {message}")

    def key(self, place: str, entry: Any, key: str) -> Any:
        """`entry[key]`, where `entry` stands at `place`.

        Raises:
            error: `entry` is no object or lacks the key.
        """
        if not isinstance(entry, dict):
            raise self.refuse(f"{place} must be an object, not {kind(entry)}")
        if key not in entry:
            known = ", ".join(map(repr, list(entry)[:8])) or "none"
            raise self.refuse(f"{place} has no key `{key}`; its keys: {known}")
        return entry[key]

    def image_id(self, place: str, entry: Any, key: str) -> ImageId:
        """The image id in `entry[key]`: a whole number or a text, as the file writes it.

        Raises:
            error: it is absent or something else (true and false are no numbers here).
        """
        value = self.key(place, entry, key)
        if not isinstance(value, int | str) or isinstance(value, bool):
            raise self.refuse(f"{place}.{key} must be a whole number or a text, not {shown(value)}")
        return self._whole(place, key, value) if isinstance(value, str) else value

    def caption(self, place: str, entry: Any) -> str:
        """The caption in `entry`.

        Raises:
            error: it is absent, no text, or holds half a character, which no file can write.
        """
        value = self.key(place, entry, "caption")
        if not isinstance(value, str):
            raise self.refuse(f"{place}.caption must be a text, not {shown(value)}")
        return self._whole(place, "caption", value)

    def file_name(self, place: str, entry: dict[str, Any]) -> str | None:
        """The file name in `entry`, if there is one.

        Raises:
            error: it holds half a character.
        """
        value = entry.get("file_name")
        return self._whole(place, "file_name", value) if isinstance(value, str) else None

    def _whole(self, place: str, key: str, text: str) -> str:
        return check_characters(text, f"{self.path}: {place}.{key}", self.error)


def shown(value: Any) -> str:
    """A JSON value for a message, cut if long."""
    if isinstance(value, list | dict):
        return kind(value)
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


def same_id(image_id: ImageId) -> str:
    """What two ids of one image have in common: `42` and `"42"` are one image, `"042"` is not."""
    return str(image_id)
