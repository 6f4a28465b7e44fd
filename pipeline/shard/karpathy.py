"""Karpathy's splits: one JSON whose `images` carry their file, split and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import AnnotationError
from pipeline.shard.json_file import JsonFile
from pipeline.shard.row import Row, check_caption

NOT_META = frozenset({"filename", "filepath", "sentences", "split"})
"""Keys of an image that do not go into the sample's `meta`; nor does the one that is its id."""


def read_karpathy(path: Path, restval: str) -> Iterator[Row]:
    """The pictures of a dataset_*.json with their raw sentences, in the file's order.

    The file name is `filepath/filename` (COCO's names its folder, val2014 for instance); the id
    is `cocoid`, else `imgid`. `restval` is the split that pictures of `restval` go to: the rest
    of COCO's validation pictures, which the field trains with.

    Raises:
        AnnotationError: the file is missing or malformed; names it and the line or key.
    """
    file = JsonFile(path, "a dataset_*.json of Karpathy's splits")
    for position, image in enumerate(file.entries("images")):
        place = f"images[{position}]"
        name = file.value(place, image, "filename", str)
        if "filepath" in image:
            name = f"{file.value(place, image, 'filepath', str)}/{name}".lstrip("/")
        identity = "cocoid" if "cocoid" in image else "imgid"
        number = file.value(place, image, identity, int) if identity in image else None
        split = file.value(place, image, "split", str) if "split" in image else None
        file.unique(place, "filename", name)
        if number is not None:
            file.unique(place, identity, number)
        yield Row(
            name,
            place,
            captions=_sentences(file, place, image),
            split=restval if split == "restval" else split,
            id=number,
            meta={k: v for k, v in image.items() if k not in NOT_META and k != identity},
        )


def _sentences(file: JsonFile, place: str, image: dict[str, Any]) -> list[str]:
    sentences = []
    for number, sentence in enumerate(file.entries_in(place, image, "sentences")):
        here = f"{place}.sentences[{number}]"
        if isinstance(sentence, dict) and "raw" not in sentence and "tokens" in sentence:
            raise AnnotationError(
                f"{file.path}: {here} has `tokens` but no `raw` text; take a file that has both"
            )
        text = file.value(here, sentence, "raw", str)
        sentences.append(check_caption(text, file.path, here))
    return sentences
