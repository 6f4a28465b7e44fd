"""COCO captions JSON: `images` with file names, `annotations` with captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import AnnotationError
from pipeline.shard.row import Row, check_caption, parse_json, read_text

NOT_META = frozenset({"id", "file_name", "width", "height", "split"})
"""Keys of an image that do not go into the sample's `meta`."""


def read_coco(path: Path) -> Iterator[Row]:
    """The pictures of a COCO captions file with their captions, in the file's order.

    An image's further keys (licence, addresses, ...) become its `meta`; an image may name
    its own `split`, as Karpathy's splits do.

    Raises:
        AnnotationError: the file is missing or malformed; names it and the line or key.
    """
    tree = parse_json(read_text(path), path)
    if not isinstance(tree, dict):
        raise AnnotationError(
            f"{path} must hold an object with `images` and `annotations`, not a {_kind(tree)}"
        )
    rows = _images(path, _list(path, tree, "images"))
    for position, annotation in enumerate(_list(path, tree, "annotations")):
        place = f"annotations[{position}]"
        caption = _value(path, place, annotation, "caption", str)
        image_id = _value(path, place, annotation, "image_id", int)
        row = rows.get(image_id)
        if row is None:
            raise AnnotationError(
                f"{path}: {place}.image_id is {image_id}, which is not the id of any image"
            )
        row.captions.append(check_caption(caption, path, place))
    yield from rows.values()


def _images(path: Path, images: list[Any]) -> dict[int, Row]:
    rows: dict[int, Row] = {}
    names: dict[str, str] = {}
    for position, image in enumerate(images):
        place = f"images[{position}]"
        image_id = _value(path, place, image, "id", int)
        file_name = _value(path, place, image, "file_name", str)
        split = _value(path, place, image, "split", str) if "split" in image else None
        if image_id in rows:
            raise AnnotationError(
                f"{path}: {place}.id is {image_id}, which {rows[image_id].place} has already"
            )
        first = names.setdefault(file_name, place)
        if first != place:
            raise AnnotationError(
                f"{path}: {place}.file_name is {file_name!r}, which {first} has already"
            )
        meta = {key: value for key, value in image.items() if key not in NOT_META}
        rows[image_id] = Row(file_name, place, split=split, id=image_id, meta=meta)
    return rows


def _list(path: Path, tree: dict[str, Any], key: str) -> list[Any]:
    if key not in tree:
        known = ", ".join(tree) or "none"
        raise AnnotationError(f"{path} has no key `{key}`; is it COCO captions? its keys: {known}")
    value = tree[key]
    if not isinstance(value, list):
        raise AnnotationError(f"{path}: `{key}` must be a list, not a {_kind(value)}")
    return value


def _value(path: Path, place: str, entry: Any, key: str, kind: type) -> Any:
    if not isinstance(entry, dict):
        raise AnnotationError(f"{path}: {place} must be an object, not a {_kind(entry)}")
    if key not in entry:
        raise AnnotationError(f"{path}: {place} has no key `{key}`; is it COCO captions?")
    value = entry[key]
    empty = key == "file_name" and not value
    if not isinstance(value, kind) or isinstance(value, bool) or empty:
        wanted = "a whole number" if kind is int else "a text"
        raise AnnotationError(f"{path}: {place}.{key} must be {wanted}, not {value!r:.80}")
    return value


def _kind(value: Any) -> str:
    names = {dict: "object", list: "list", str: "text", type(None): "null", bool: "true or false"}
    return names.get(type(value), "number")
