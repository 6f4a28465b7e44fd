"""The configured sources as one list of described pictures; knows no picture's bytes.

Each format has its own file beside this one and yields `Row`s; here they get a key, a
split and a digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import Config
from pipeline.config_sources import (
    CocoSource,
    CsvSource,
    JsonlSource,
    KarpathySource,
    ParquetSource,
    Source,
)
from pipeline.errors import AnnotationError, ConfigError, DataError
from pipeline.shard.coco import read_coco
from pipeline.shard.csv_rows import read_csv
from pipeline.shard.jsonl_rows import read_jsonl
from pipeline.shard.karpathy import read_karpathy
from pipeline.shard.row import Embedded, Row

SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
"""What may stand in a tar's file name."""

_encode = json.JSONEncoder(sort_keys=True).encode


class Picture(NamedTuple):
    """One picture of a source and what is said about it."""

    key: str
    """Sample key: hex digits of the source's name and the file name, so any file name will do."""
    id: int | str
    """The captions file's own, such as COCO's image id, else the key."""
    source: str
    folders: tuple[str, ...]
    """Where the file is searched, in order."""
    file_name: str
    captions: tuple[str, ...]
    empty_captions: int
    """Captions of white space alone, left out."""
    split: str
    meta: dict[str, Any]
    text: str
    """Digest of all of the above that goes into the sample."""
    embedded: Embedded | None = None
    """The table's row that the picture is in, if it is no file."""


def read_sources(config: Config) -> list[Picture]:
    """Every picture of every configured source, in the sources' order.

    Raises:
        ConfigError: no sources, two of one name, or a split or share that cannot be.
        AnnotationError: a captions file that is missing or malformed.
        DataError: a source without pictures.
    """
    settings = config.shard
    if not settings.sources:
        raise ConfigError(
            "shard.sources is empty; name at least one captions file, such as "
            "{kind: coco, annotations: captions.json, images: [images], split: train}"
        )
    _check_splits(config)
    names = _names(settings.sources)
    pictures: list[Picture] = []
    for source, name in zip(settings.sources, names, strict=True):
        found = list(_read_source(config, source, name))
        if not found:
            raise DataError(f"{config.input_path(source.annotations)} lists no pictures")
        pictures.extend(found)
    return pictures


def sample_key(source: str, file_name: str) -> str:
    """The key of a sample: 20 hex digits, whatever characters the names hold."""
    return _digest(source, file_name)[:20]


def image_folders(config: Config, source: Source) -> tuple[str, ...]:
    """Where the pictures of a source are searched, in order."""
    if source.images:
        return tuple(str(config.input_path(folder)) for folder in source.images)
    path = config.input_path(source.annotations)
    if isinstance(source, ParquetSource):
        from pipeline.shard.parquet_file import find_files

        return (str(find_files(path)[0]),)
    return (str(path.parent),)


def _rows(path: Path, source: Source) -> Iterator[Row]:
    match source:
        case CocoSource():
            return read_coco(path)
        case KarpathySource():
            return read_karpathy(path, source.restval)
        case CsvSource():
            return read_csv(path)
        case JsonlSource():
            return read_jsonl(path)
        case ParquetSource():
            from pipeline.shard.parquet_rows import read_parquet  # pyarrow takes its time

            return read_parquet(path, source.columns)


def _read_source(config: Config, source: Source, name: str) -> Iterator[Picture]:
    path = config.input_path(source.annotations)
    folders = image_folders(config, source)
    for row in _rows(path, source):
        if row.split is not None and not SPLIT_NAME.fullmatch(row.split):
            raise AnnotationError(
                f"{path}, {row.place}: split {row.split!r} is not a name of letters, digits, _ and -"
            )
        key = sample_key(name, row.file_name)
        split = source.split or row.split or _held_out(config, key)
        captions = tuple(text for caption in row.captions if (text := caption.strip()))
        identity = row.id if row.id is not None else key
        yield Picture(
            key,
            identity,
            name,
            folders,
            row.file_name,
            captions,
            len(row.captions) - len(captions),
            split,
            row.meta,
            _digest(_encode([identity, name, row.file_name, captions, split, row.meta]))[:16],
            row.embedded,
        )


def _names(sources: list[Source]) -> list[str]:
    names = [source.name or Path(source.annotations).stem for source in sources]
    for position, name in enumerate(names):
        first = names.index(name)
        if first != position:
            raise ConfigError(
                f"shard.sources {first} and {position} are both named {name!r}; "
                f"give one of them a `name`, which becomes part of its samples' keys"
            )
    return names


def _check_splits(config: Config) -> None:
    settings = config.shard
    for position, source in enumerate(settings.sources):
        for key in ("split", "restval"):
            split = getattr(source, key, None)
            if split is not None and not SPLIT_NAME.fullmatch(split):
                raise ConfigError(
                    f"shard.sources.{position}.{key} = {split!r} is not a name of letters, "
                    "digits, _ and -"
                )
    for name, share in settings.holdout.items():
        if not SPLIT_NAME.fullmatch(name):
            raise ConfigError(
                f"shard.holdout: split {name!r} is not a name of letters, digits, _ and -"
            )
        if not 0 <= share <= 1:
            raise ConfigError(f"shard.holdout.{name} = {share} is not a share between 0 and 1")
    total = sum(settings.holdout.values())
    if total > 1:
        raise ConfigError(f"shard.holdout adds up to {total:g}; at most 1 is allowed")


def _held_out(config: Config, key: str) -> str:
    """The split of a picture without one; it depends on the seed and the key alone."""
    if not config.shard.holdout:
        return "train"
    point = int(_digest(str(config.shard.seed), "split", key)[:13], 16) / 16**13
    for name, share in sorted(config.shard.holdout.items()):
        point -= share
        if point < 0:
            return name
    return "train"


def _digest(*words: str) -> str:
    # Lone surrogates (names that are not UTF-8) have digests too.
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()
