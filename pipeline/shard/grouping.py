"""Rows of one image each, as tables have them, into one picture with several captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.errors import AnnotationError
from pipeline.shard.row import Embedded, Row, check_caption

COLUMNS = ("image", "caption", "split")
"""Columns of CSV and JSONL with a meaning; all others are `meta`."""


class Entry(NamedTuple):
    """One row of a table."""

    place: str
    """Where it stands, for messages."""
    image: str
    captions: list[str]
    split: str | None
    meta: dict[str, Any]
    id: int | str | None = None
    embedded: Embedded | None = None


def text_entries(path: Path, rows: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[Entry]:
    """CSV's and JSONL's rows, each a line number and its columns.

    Raises:
        AnnotationError: a column is missing or not a text.
    """
    for number, row in rows:
        place = f"line {number}"
        file_name = _text(path, place, row, "image")
        split = None
        if row.get("split") is not None:
            split = _text(path, place, row, "split")
        empty = row.get("caption", "") is None
        caption = "" if empty else _text(path, place, row, "caption")
        meta = {key: value for key, value in row.items() if key not in COLUMNS}
        yield Entry(place, file_name, [caption], split, meta)


def group(path: Path, entries: Iterator[Entry]) -> Iterator[Row]:
    """One `Row` a picture: of all entries with its id, or of its file name where there is no id.

    A further column becomes a key of `meta`: its value, or a list with one value a row where
    the rows of a picture differ.

    Raises:
        AnnotationError: a row names no image, or one picture has two splits, ids or files.
    """
    pictures: dict[int | str, Row] = {}
    columns: dict[int | str, list[dict[str, Any]]] = {}
    named: dict[str, int | str] = {}
    for entry in entries:
        place = entry.place
        if not entry.image:
            raise AnnotationError(f"{path}, {place}: `image` is empty")
        split = entry.split.strip() or None if entry.split is not None else None
        which = entry.image if entry.id is None else entry.id
        row = Row(entry.image, place, split=split, id=entry.id, embedded=entry.embedded)
        picture = pictures.setdefault(which, row)
        if picture.split != split:
            raise AnnotationError(
                f"{path}, {place}: {entry.image!r} has split {split!r}, but {picture.split!r} in "
                f"{picture.place}; one picture belongs to one split"
            )
        if entry.id is not None and entry.embedded is None:
            _check_id(path, entry, picture, named.setdefault(entry.image, entry.id))
        picture.captions += [check_caption(text, path, place) for text in entry.captions]
        columns.setdefault(which, []).append(entry.meta)
    for which, picture in pictures.items():
        picture.meta = _merge(columns[which])
        yield picture


def _check_id(path: Path, entry: Entry, picture: Row, first_id: int | str) -> None:
    if picture.file_name != entry.image:
        raise AnnotationError(
            f"{path}, {entry.place}: id {entry.id!r} is of {entry.image!r}, but of "
            f"{picture.file_name!r} in {picture.place}; one id belongs to one picture"
        )
    if first_id != entry.id:
        raise AnnotationError(
            f"{path}, {entry.place}: {entry.image!r} has id {entry.id!r}, but {first_id!r} before; "
            "one picture has one id"
        )


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
