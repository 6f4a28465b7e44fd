"""JSONL: an object a line with image, caption, optional split and further keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import AnnotationError
from pipeline.shard.grouping import group, text_entries
from pipeline.shard.row import Row, parse_row, read_text


def read_jsonl(path: Path) -> Iterator[Row]:
    """The pictures of a file with one JSON object a line.

    Raises:
        AnnotationError: the file is missing or malformed; names it and the line.
    """
    return group(path, text_entries(path, _jsonl_rows(path, read_text(path))))


def _jsonl_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    # Not splitlines: a JSON text may hold U+2028 and other separators that it would cut at.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        value = parse_row(line, path, number)
        if not isinstance(value, dict):
            raise AnnotationError(f"{path}, line {number}: not an object but {line.strip():.80}")
        yield number, value
