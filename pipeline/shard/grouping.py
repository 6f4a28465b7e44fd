"""Rows of one image each, as tables have them, into one picture with several captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import AnnotationError
from pipeline.shard.row import Row, check_caption

COLUMNS = ("image", "caption", "split")
"""Columns with a meaning; all others are `meta`."""


def group_rows(path: Path, rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[Row]:
    """One `Row` an image; each of `rows` is a line number and its columns.

    A further column becomes a key of `meta`: its value, or a list with one value a row where
    the rows of a picture differ.

    Raises:
        AnnotationError: a column is missing or not a text, or one picture has two splits.
    """
    pictures: dict[str, Row] = {}
    columns: dict[str, list[dict[str, Any]]] = {}
    for number, row in rows:
        place = f"line {number}"
        file_name = _text(path, place, row, "image")
        if not file_name:
            raise AnnotationError(f"{path}, {place}: `image` is empty")
        split = None
        if row.get("split") is not None:
            split = _text(path, place, row, "split").strip() or None
        picture = pictures.setdefault(file_name, Row(file_name, place, split=split))
        if picture.split != split:
            raise AnnotationError(
                f"{path}, {place}: {file_name!r} has split {split!r}, but {picture.split!r} in "
                f"{picture.place}; one picture belongs to one split"
            )
        empty = row.get("caption", "") is None
        caption = "" if empty else _text(path, place, row, "caption")
        picture.captions.append(check_caption(caption, path, place))
        further = {key: value for key, value in row.items() if key not in COLUMNS}
        columns.setdefault(file_name, []).append(further)
    for file_name, picture in pictures.items():
        picture.meta = _merge(columns[file_name])
        yield picture


def _merge(rows: list[dict[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        same = all(value == values[0] for value in values)
        merged[name] = values[0] if same else values
    return merged


def _text(path: Path, place: str, row: dict[str, Any], key: str) -> str:
    if key not in row:
        raise AnnotationError(
            f"{path}, {place}: no key `{key}`; keys here: {', '.join(row) or 'none'}"
        )
    value = row[key]
    if not isinstance(value, str):
        raise AnnotationError(f"{path}, {place}: `{key}` must be a text, not {value!r:.80}")
    return value
