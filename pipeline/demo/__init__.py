"""Generates a data set: pictures of coloured shapes with five captions each, in COCO's format.

Seeded: the same settings give the same bytes. No two pictures share a scene, so what is
validated, tested and captioned in bulk are combinations that training never saw.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from random import Random
from typing import Any

from pipeline import storage
from pipeline.config import DemoConfig
from pipeline.demo.draw import draw
from pipeline.demo.scenes import MOST_SCENES, Scene, distinct_scenes
from pipeline.demo.troubles import TROUBLES, jpeg
from pipeline.demo.wording import captions
from pipeline.errors import ConfigError
from pipeline.progress import Progress, say

RECIPE = 1
"""Raise it with every change that moves a byte of the data set."""

MARKER = "demo.json"
"""Written first, with every file name to come, and again when all of them are there."""

_SPLITS = ("train", "val", "test")
_SHELVES = ("attic", "cellar", "holiday/2019", "holiday/2020")
_ODD = "odd"


@dataclass(frozen=True)
class _Picture:
    """One file to write; `split` is a split's name, `archive`, or the name of a trouble."""

    file: str
    split: str
    number: int
    scene: Scene


def generate(config: DemoConfig, directory: Path) -> None:
    """Make `directory` hold the data set of `config`; return at once if it does already.

    Written are `{train,val,test}/*.jpg` with `captions_{train,val,test}.json` (COCO captions
    format) and `archive/**`, pictures without captions among which are a few troubles.
    An unfinished or older data set is written again; files that are not part of one stay.

    Raises:
        ConfigError: more pictures than there are scenes, or `directory` holds something else.
        BusyError: another process is generating there.
    """
    pictures = _plan(config)
    names = [f"captions_{split}.json" for split in _SPLITS] + [p.file for p in pictures]
    mark = {
        "captionmill": "generated demo data",
        "fingerprint": storage.fingerprint({"recipe": RECIPE, **config.model_dump(mode="json")}),
        "files": sorted(names),
    }
    if _former(directory) == {**mark, "complete": True} and _all_there(directory, names):
        say("demo", f"nothing new: {_summary(config)} ({directory})")
        return
    _refuse_strangers(directory)
    with storage.lock(directory):
        _remove_former(directory)
        storage.commit_json(directory / MARKER, {**mark, "complete": False})
        _write(config, directory, pictures)
        storage.commit_json(directory / MARKER, {**mark, "complete": True})
    say("demo", f"generated {_summary(config)} ({directory})")


def _summary(config: DemoConfig) -> str:
    counts = ", ".join(f"{getattr(config, f'{split}_images'):,} {split}" for split in _SPLITS)
    return f"{counts} and {config.archive_images + len(TROUBLES):,} archive files"


def _plan(config: DemoConfig) -> list[_Picture]:
    counts = {split: getattr(config, f"{split}_images") for split in _SPLITS}
    total = sum(counts.values()) + config.archive_images + len(TROUBLES)
    if total > MOST_SCENES:
        raise ConfigError(
            f"demo: {total:,} pictures in all are asked for, but only {MOST_SCENES:,} different"
            " scenes are drawn; lower demo.train_images or its neighbours"
        )
    scenes = distinct_scenes(_seeded(f"scenes {config.seed}"))
    pictures: list[_Picture] = []
    for split, count in counts.items():
        for scene in islice(scenes, count):
            number = len(pictures) + 1
            pictures.append(_Picture(f"{split}/{number:06d}.jpg", split, number, scene))
    for index, scene in enumerate(islice(scenes, config.archive_images)):
        file = f"archive/{_SHELVES[index % len(_SHELVES)]}/{index + 1:04d}.jpg"
        pictures.append(_Picture(file, "archive", len(pictures) + 1, scene))
    for name, scene in zip(TROUBLES, scenes, strict=False):
        pictures.append(_Picture(f"archive/{_ODD}/{name}", name, len(pictures) + 1, scene))
    return pictures


def _seeded(text: str) -> Random:
    return Random(text)  # noqa: S311  (reproducible, not secret)


def _former(directory: Path) -> Any:
    """The marker's content, or None where there is none that we wrote."""
    try:
        mark = storage.read_json(directory / MARKER)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return mark if isinstance(mark, dict) and {"captionmill", "files"} <= set(mark) else None


def _all_there(directory: Path, names: list[str]) -> bool:
    return all((directory / name).is_file() for name in names)


def _refuse_strangers(directory: Path) -> None:
    if _former(directory) is not None or not directory.exists():
        return
    if not directory.is_dir():
        raise ConfigError(f"{directory} is a file; name a directory for the data set")
    # The lock's own file and a killed commit's are no content.
    others = sorted(path.name for path in directory.iterdir() if not path.name.startswith("."))
    if others:
        raise ConfigError(
            f"{directory} holds {others[0]} and no data set of ours;"
            " choose another --work, or move what is there away"
        )


def _remove_former(directory: Path) -> None:
    """Delete the files of an earlier data set, by name and nothing else."""
    mark = _former(directory)
    for name in map(PurePosixPath, mark["files"] if mark else []):
        if not name.is_absolute() and ".." not in name.parts:
            (directory / name).unlink(missing_ok=True)


def _write(config: DemoConfig, directory: Path, pictures: list[_Picture]) -> None:
    progress = Progress("demo", len(pictures))
    for folder in sorted({(directory / picture.file).parent for picture in pictures}):
        folder.mkdir(parents=True, exist_ok=True)
    annotations: dict[str, list[dict[str, Any]]] = {split: [] for split in _SPLITS}
    for picture in pictures:
        random = _seeded(f"picture {config.seed} {picture.number}")
        image = draw(picture.scene, config.image_size, random)
        encode = TROUBLES.get(picture.split, jpeg)
        (directory / picture.file).write_bytes(encode(image))
        if picture.split in annotations:
            annotations[picture.split] += _annotations(picture, random)
        progress.add()
    progress.close()
    # Files are flushed together: one at a time takes longer than drawing them.
    for picture in pictures:
        with open(directory / picture.file, "rb") as file:
            os.fsync(file.fileno())
    for split in _SPLITS:
        members = [picture for picture in pictures if picture.split == split]
        coco = {
            "info": {"description": f"captionmill demo: {split}", "version": str(RECIPE)},
            "licenses": [],
            "images": list(_images(members, config.image_size)),
            "annotations": annotations[split],
        }
        storage.commit(directory / f"captions_{split}.json", json.dumps(coco, indent=1) + "\n")


def _annotations(picture: _Picture, random: Random) -> Iterator[dict[str, Any]]:
    for index, caption in enumerate(captions(picture.scene, random)):
        yield {"id": picture.number * 10 + index, "image_id": picture.number, "caption": caption}


def _images(pictures: list[_Picture], size: int) -> Iterator[dict[str, Any]]:
    for picture in pictures:
        name = PurePosixPath(picture.file).name
        yield {"id": picture.number, "file_name": name, "width": size, "height": size}
