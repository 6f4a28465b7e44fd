"""JSON that a person hands over, as text: every complaint names the file, the place and the way out.

Which class of error it is, the caller says.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import DataError

_KINDS = {dict: "an object", list: "a list", str: "a text", type(None): "null", bool: "a boolean"}
_LENIENT = json.JSONDecoder()


def decode_text(data: bytes, path: Path, error: type[DataError]) -> str:
    """The file's bytes as text, without a byte order mark.

    Raises:
        error: they are not UTF-8; names the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as reason:
        line = data.count(b"\n", 0, reason.start) + 1
        raise error(
            f"{path}, line {line}: byte {data[reason.start]:#04x} is not UTF-8; "
            "save the file as UTF-8"
        ) from None


def parse_json(
    text: str,
    path: Path,
    error: type[DataError],
    *,
    line: int | None = None,
    decoder: json.JSONDecoder = _LENIENT,
) -> Any:
    """The JSON value; `line` is where `text` stands, for a file with a value a line.

    Raises:
        error: it is not JSON, or not such as `decoder` takes; names the line.
    """
    where = str(path) if line is None else f"{path}, line {line}"
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as reason:
        hint = ""
        if line is None:
            where = f"{path}, line {reason.lineno}"
            lines = reason.msg == "Extra data" and reason.lineno == 2
            hint = "; is it JSON Lines? One JSON value is needed" if lines else ""
        raise error(
            f"{where}, column {reason.colno}: not JSON: "
            f"{reason.msg[0].lower()}{reason.msg[1:]}{hint}"
        ) from None
    except (ValueError, RecursionError) as reason:  # numbers of thousands of digits; depth
        deep = isinstance(reason, RecursionError)
        told = "nested too deeply" if deep else str(reason).partition(":")[0]
        raise error(f"{where}: not JSON: {told}") from None


def check_characters(text: str, place: str, error: type[DataError]) -> str:
    """`text`, unless it holds half a character, which no tokenizer and no file can write.

    Raises:
        error: it does (a cut emoji leaves half of a surrogate pair); says that `place` holds it.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as reason:
            half = ord(text[reason.start])
            raise error(
                f"{place} holds \\u{half:04x}, half of a character (a cut emoji?); remove it"
            ) from None
    return text


def kind(value: Any) -> str:
    """What a JSON value is, in words."""
    return _KINDS.get(type(value), "a number")
