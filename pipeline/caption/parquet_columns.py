"""Which columns of a Parquet archive hold pictures, paths, names, and what is said beside them."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import types

from pipeline.errors import ArchiveError

PICTURES = (
    *("image", "img", "picture", "photo", "bytes", "image_bytes", "content", "data"),
    *("jpg", "jpeg", "png", "webp", "binary"),
)
PATHS = ("path", "image_path", "file_path", "filepath", "file_name", "filename", "file", *PICTURES)
NAMES = ("__key__", "key", "file_name", "filename", "path", "name", "id", "image_id")


@dataclass(frozen=True)
class Columns:
    """Leaves by their names joined with dots."""

    picture: str | None
    """Bytes."""
    path: str | None
    """Text: of the file that is read, without `picture`; else a name."""
    name: str | None
    """Text or whole numbers."""
    meta: tuple[str, ...]
    """Top-level columns that JSON can hold."""


def find_columns(
    file: str, schema: pa.Schema, image: str | None = None, name: str | None = None
) -> Columns:
    """The columns of a file with this schema; `image` and `name` if the user says so.

    Raises:
        ArchiveError: there is no column of pictures or paths, or one of another type is named.
    """
    if len(set(schema.names)) != len(schema.names):
        raise ArchiveError(f"{file} names a column twice ({', '.join(schema.names)}); rename one")
    leaves = dict(_leaves(schema))
    picture = path = None
    if image is not None:
        picture = _of(leaves, _under(image, "bytes"), _is_bytes)
        path = _of(leaves, _under(image, "path"), _is_text)
    else:
        inside = [leaf for top in PICTURES for leaf in _under(top, "bytes")]
        picture = _of(leaves, inside, _is_bytes) or _only(leaves, _is_bytes)
        tops = PATHS if picture is None else (picture.rpartition(".")[0],)
        path = _of(leaves, [leaf for top in tops for leaf in _under(top, "path")], _is_text)
    if picture is None and path is None:
        wanted = f"column {image!r} of bytes or texts" if image else "column of pictures or paths"
        raise ArchiveError(
            f"{file} has no {wanted}; its columns are"
            f" {', '.join(f'{leaf}: {kind}' for leaf, kind in leaves.items())};"
            " name one that holds bytes or paths with --set caption.image_column=NAME"
        )
    if name is not None and _of(leaves, [name], _is_name) is None:
        raise ArchiveError(
            f"{file} has no column {name!r} of texts or whole numbers (caption.name_column);"
            f" its columns are {', '.join(f'{leaf}: {kind}' for leaf, kind in leaves.items())}"
        )
    if name is None and picture is not None:
        name = path or _of(leaves, NAMES, _is_name)
    own = {leaf.partition(".")[0] for leaf in (picture, path if picture is None else None) if leaf}
    meta = tuple(
        field.name for field in schema if field.name not in own and not _holds_bytes(field.type)
    )
    return Columns(picture, path, name, meta)


def _under(top: str, leaf: str) -> list[str]:
    """A column as it is, and as the structure of bytes and path that `datasets` writes."""
    return [top, f"{top}.{leaf}"] if top else []


def _leaves(schema: pa.Schema) -> Iterator[tuple[str, pa.DataType]]:
    fields = [(field.name, field.type) for field in reversed(schema)]
    while fields:
        name, kind = fields.pop()
        kind = _storage(kind)
        if types.is_struct(kind):
            inner = [kind.field(n) for n in range(kind.num_fields)]
            fields += [(f"{name}.{field.name}", field.type) for field in reversed(inner)]
        else:
            yield name, kind


def _of(
    leaves: dict[str, pa.DataType], names: list[str] | tuple[str, ...], fits: Callable[..., bool]
) -> str | None:
    return next((name for name in names if name in leaves and fits(leaves[name])), None)


def _only(leaves: dict[str, pa.DataType], fits: Callable[..., bool]) -> str | None:
    found = [name for name, kind in leaves.items() if fits(kind)]
    return found[0] if len(found) == 1 else None


def _storage(kind: pa.DataType) -> pa.DataType:
    while isinstance(kind, pa.BaseExtensionType):
        kind = kind.storage_type
    return kind


def _plain(kind: pa.DataType) -> pa.DataType:
    kind = _storage(kind)
    return kind.value_type if types.is_dictionary(kind) else kind


def _is_bytes(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _is_text(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_name(kind: pa.DataType) -> bool:
    return _is_text(kind) or types.is_integer(_plain(kind))


def _holds_bytes(kind: pa.DataType) -> bool:
    kind = _plain(kind)
    if types.is_map(kind):
        return _holds_bytes(kind.key_type) or _holds_bytes(kind.item_type)
    if types.is_struct(kind):
        return any(_holds_bytes(kind.field(n).type) for n in range(kind.num_fields))
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _holds_bytes(kind.value_type)
    return _is_bytes(kind) or bool(types.is_fixed_size_binary(kind))


def leaf(batch: pa.RecordBatch, name: str) -> pa.Array:
    """The array of a leaf in a batch that holds it; null where a structure around it is."""
    whole = name
    while whole not in batch.schema.names:
        whole = whole.rpartition(".")[0]
    array = batch.column(whole)
    for inner in name[len(whole) + 1 :].split(".") if whole != name else ():
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        # `flatten` hands the structure's own nulls down.
        place = array.type.get_field_index(inner)
        array = array.flatten()[place]
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array.dictionary_decode() if types.is_dictionary(array.type) else array


def as_json(value: Any) -> Any:
    """A Python value from Arrow as JSON holds it: no NaN, moments and decimals as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    return value
