"""References: the images and captions of a COCO captions file, in the file's order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import AnnotationError
from pipeline.json_text import kind
from pipeline.results.json_file import ImageId, JsonFile, same_id, shown

NAMED = 5
"""Images that a message names before it says how many more there are."""


@dataclass(frozen=True)
class ReferenceCaptions:
    """N images and their reference captions, one or more each."""

    path: Path
    sha256: str
    """Of the file's bytes."""
    ids: list[ImageId]
    file_names: list[str | None]
    captions: list[list[str]]

    @property
    def number_of_captions(self) -> int:
        """Of all images together."""
        return sum(map(len, self.captions))


def read_references(path: Path) -> ReferenceCaptions:
    """Read COCO captions JSON: `images` with `id`, `annotations` with `image_id` and `caption`.

    Images stand in the order of `images`, captions in that of `annotations`, as coco-caption
    takes them. A `file_name` is kept where there is one; other keys do not matter.

    Raises:
        AnnotationError: the file is missing or malformed, an id stands twice, a caption is of no
            image, or an image has no caption; names the file and the place.
    """
    file = JsonFile.read(path, AnnotationError)
    ids: list[ImageId] = []
    file_names: list[str | None] = []
    captions: dict[str, list[str]] = {}
    for position, image in enumerate(_list(file, "images")):
        place = f"images[{position}]"
        image_id = file.image_id(place, image, "id")
        if same_id(image_id) in captions:
            raise file.refuse(f"{place}.id is {shown(image_id)}, which an image before it has")
        captions[same_id(image_id)] = []
        ids.append(image_id)
        file_names.append(file.file_name(place, image))
    for position, annotation in enumerate(_list(file, "annotations")):
        place = f"annotations[{position}]"
        image_id = file.image_id(place, annotation, "image_id")
        if same_id(image_id) not in captions:
            raise file.refuse(
                f"{place}.image_id is {shown(image_id)}, which is not the id of any image"
            )
        captions[same_id(image_id)].append(file.caption(place, annotation))
    if not ids:
        raise file.refuse("`images` is empty; there is nothing to score")
    bare = [image_id for image_id in ids if not captions[same_id(image_id)]]
    if bare:
        raise file.refuse(
            f"{len(bare):,} of {len(ids):,} images have no caption: {named(bare)}; every image "
            "needs at least one reference (leave out images without any)"
        )
    return ReferenceCaptions(
        path, file.sha256, ids, file_names, [captions[same_id(image_id)] for image_id in ids]
    )


def named(items: list[Any]) -> str:
    """The first few of `items`, and how many more."""
    first = ", ".join(map(shown, items[:NAMED]))
    return first if len(items) <= NAMED else f"{first} and {len(items) - NAMED:,} more"


def _list(file: JsonFile, key: str) -> list[Any]:
    if isinstance(file.value, list):
        raise file.refuse(
            "references must be an object with `images` and `annotations` (COCO captions), "
            "not a list; is it a results file?"
        )
    value = file.key("the file", file.value, key)
    if not isinstance(value, list):
        raise file.refuse(f"`{key}` must be a list, not {kind(value)}")
    return value
