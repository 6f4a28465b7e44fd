"""What an input brought along, as one JSON text that a library can join on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

META_BYTES = 1 << 20
"""A longer `.json` or `.txt` is not read."""


def combine(found: Mapping[str, bytes | str]) -> str | None:
    """The JSON text of a sample's `json` and `txt` members; None if there is neither.

    Bytes are content; a str is the code of why there is none, and becomes `{"error": code}`.
    One valid `.json` stays as it was written. A `.txt` becomes the key `txt`, in the JSON's
    own object where it has no such key, else in `{"json": ..., "txt": ...}`.
    """
    if not found:
        return None
    values = {kind: _value(kind, content) for kind, content in found.items()}
    content = found.get("json")
    if set(values) == {"json"} and isinstance(content, bytes) and _parses(content):
        return content.decode().strip()
    own = values.get("json")
    if "txt" in values and isinstance(own, dict) and "txt" not in own:
        return dump({**own, "txt": values["txt"]})
    return dump(own if set(values) == {"json"} else values)


def _value(kind: str, content: bytes | str) -> Any:
    if isinstance(content, str):
        return {"error": content}
    if kind == "json" and _parses(content):
        return json.loads(content)
    return content.decode(errors="replace").strip()


def _parses(content: bytes) -> bool:
    """Whether this is JSON that every reader takes: UTF-8, no NaN, not endlessly nested."""
    try:
        json.loads(content.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def dump(value: Any) -> str:
    """JSON text, compact, that is always UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate can be written in JSON, but only as an escape.
    return text if text.isascii() or _encodes(text) else json.dumps(value, separators=(",", ":"))


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
