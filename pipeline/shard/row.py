"""What every format of captions file is read into, and how such a file is opened."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from pipeline.errors import AnnotationError
from pipeline.json_text import check_characters, decode_text, parse_json


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)


class Stat(NamedTuple):
    """What tells a changed file without reading it."""

    size: int
    mtime_ns: int


class Embedded(NamedTuple):
    """A picture whose bytes stand in a table's row."""

    file: str
    """The Parquet file."""
    column: str
    """The column of bytes, as a path of names joined by dots."""
    row: int
    """In the file, from 0."""
    stat: Stat
    """The file's, when its captions were read."""


@dataclass(slots=True)
class Row:
    """One picture as its captions file describes it."""

    file_name: str
    place: str
    """Where in the file it stands, for messages: a line or a key."""
    captions: list[str] = field(default_factory=list)
    split: str | None = None
    id: int | str | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    embedded: Embedded | None = None
    """Where its bytes are, if not in a file of their own."""


def read_text(path: Path) -> str:
    """The file as text.

    Raises:
        AnnotationError: it is missing, cannot be read or is not UTF-8; names the line.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise AnnotationError(
            f"no captions file {path}; check shard.sources and data_root"
        ) from None
    except OSError as error:
        raise AnnotationError(f"cannot read the captions file {path}: {error.strerror}") from None
    return decode_text(data, path, AnnotationError)


def parse_row(text: str, path: Path, line: int | None = None) -> Any:
    """The JSON value; `line` is where `text` stands, for a file with a value a line.

    Raises:
        AnnotationError: it is not JSON, or holds NaN or Infinity; names the line.
    """
    return parse_json(text, path, AnnotationError, line=line, decoder=_DECODER)


def check_caption(caption: str, path: Path, place: str) -> str:
    """`caption`, unless it holds half a character.

    Raises:
        AnnotationError: it does.
    """
    return check_characters(caption, f"{path}, {place}: the caption", AnnotationError)
