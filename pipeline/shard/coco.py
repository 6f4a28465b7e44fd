"""COCO captions JSON: `images` with file names, `annotations` with captions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import AnnotationError
from pipeline.shard.json_file import JsonFile
from pipeline.shard.row import Row, check_caption

NOT_META = frozenset({"id", "file_name", "width", "height", "split"})
"""Keys of an image that do not go into the sample's `meta`."""


def read_coco(path: Path) -> Iterator[Row]:
    """The pictures of a COCO captions file with their captions, in the file's order.

    An image's further keys (licence, addresses, ...) become its `meta`; an image may name
    its own `split`, as Karpathy's splits do.

    Raises:
        AnnotationError: the file is missing or malformed; names it and the line or key.
    """
    file = JsonFile(path, "COCO captions")
    rows = _images(file, file.entries("images", "annotations"))
    for position, annotation in enumerate(file.entries("annotations", "images")):
        place = f"annotations[{position}]"
        caption = file.value(place, annotation, "caption", str)
        image_id = file.value(place, annotation, "image_id", int)
        row = rows.get(image_id)
        if row is None:
            raise AnnotationError(
                f"{path}: {place}.image_id is {image_id}, which is not the id of any image"
            )
        row.captions.append(check_caption(caption, path, place))
    yield from rows.values()


def _images(file: JsonFile, images: list[Any]) -> dict[int, Row]:
    rows: dict[int, Row] = {}
    for position, image in enumerate(images):
        place = f"images[{position}]"
        image_id = file.value(place, image, "id", int)
        file_name = file.value(place, image, "file_name", str)
        split = file.value(place, image, "split", str) if "split" in image else None
        file.unique(place, "id", image_id)
        file.unique(place, "file_name", file_name)
        meta = {key: value for key, value in image.items() if key not in NOT_META}
        rows[image_id] = Row(file_name, place, split=split, id=image_id, meta=meta)
    return rows
