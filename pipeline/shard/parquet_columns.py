"""Which columns of a Parquet file say what, by name and type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyarrow import types

from pipeline.config_sources import ParquetColumns
from pipeline.errors import AnnotationError

_AS_THEY_ARE = (
    types.is_null,
    types.is_boolean,
    types.is_integer,
    types.is_floating,
    types.is_string,
    types.is_large_string,
)
_AS_TEXT = (types.is_timestamp, types.is_date, types.is_time, types.is_decimal)
_LISTS = (types.is_list, types.is_large_list, types.is_fixed_size_list)


class Columns:
    """The columns of one file.

    Raises:
        AnnotationError: one is missing, named twice or of a type that it cannot have.
    """

    def __init__(self, path: Path, schema: pa.Schema, settings: ParquetColumns) -> None:
        self._path, self._schema = path, schema
        if len(set(schema.names)) != len(schema.names):
            raise AnnotationError(f"{path}: a column is named twice: {', '.join(schema.names)}")
        self.image = settings.image
        self.bytes: str | None = None
        """The column of the pictures' bytes, its names joined by dots."""
        self.paths: str | None = None
        """The column of their paths, likewise."""
        self._find_image()
        self.captions = self._captions(settings)
        self.split = settings.split or ("split" if "split" in schema.names else None)
        self.id = settings.id
        if self.split is not None:
            self._require(self.split, "texts", _is_text)
        if self.id is not None:
            self._require(self.id, "whole numbers or texts", _is_text, types.is_integer)
        taken = {self.image, *self.captions, self.split, self.id}
        further = {name: plain(schema.field(name).type) for name in schema.names}
        self.meta = {k: v for k, v in further.items() if v is not None and k not in taken}
        """All others that JSON can hold, with the type that they are read as."""
        self.left_out = [k for k, v in further.items() if v is None and k not in taken]

    def described(self) -> list[str]:
        """All columns that are read with the captions."""
        found = [self.paths, *self.captions, self.split, self.id, *self.meta]
        return [name for name in found if name is not None]

    def _find_image(self) -> None:
        kind = self._require(self.image, "pictures")
        if _is_text(kind):
            self.paths = self.image
        elif _is_bytes(kind):
            self.bytes = self.image
        elif types.is_struct(kind):
            inside = {kind.field(n).name: kind.field(n).type for n in range(kind.num_fields)}
            if "bytes" in inside and _is_bytes(inside["bytes"]):
                self.bytes = f"{self.image}.bytes"
            if "path" in inside and _is_text(inside["path"]):
                self.paths = f"{self.image}.path"
        if self.paths is None and self.bytes is None:
            self._wrong(self.image, "texts (paths), bytes, or a struct of `bytes` and `path`")

    def _captions(self, settings: ParquetColumns) -> list[str]:
        names = settings.captions
        if not names:
            names = [name for name in ("caption", "captions") if name in self._schema.names]
            if len(names) != 1:
                both = "both `caption` and `captions`" if names else "no column `caption`"
                raise AnnotationError(
                    f"{self._path}: {both}; name the columns of captions in the source's "
                    f"columns.captions; columns here: {', '.join(self._schema.names)}"
                )
        for name in names:
            self._require(name, "texts or lists of texts", _is_text, _is_texts)
        return names

    def _require(
        self, name: str, wanted: str, *allowed: Callable[[pa.DataType], bool]
    ) -> pa.DataType:
        if name not in self._schema.names:
            raise AnnotationError(
                f"{self._path}: no column `{name}`; name it in the source's `columns`; columns "
                f"here: {', '.join(self._schema.names)}"
            )
        kind = self._schema.field(name).type
        if allowed and not any(test(kind) for test in allowed):
            self._wrong(name, wanted)
        return kind

    def _wrong(self, name: str, wanted: str) -> None:
        kind = self._schema.field(name).type
        raise AnnotationError(f"{self._path}: column `{name}` must hold {wanted}, not {kind}")


def plain(kind: pa.DataType) -> pa.DataType | None:
    """What a type is read as so that JSON holds it; None: bytes and others that it cannot hold.

    Numbers, texts, lists and structs stay; dates, times and decimals become texts.
    """
    if types.is_dictionary(kind):
        return plain(kind.value_type)
    if any(test(kind) for test in (*_AS_THEY_ARE, *_AS_TEXT)):
        return pa.string() if any(test(kind) for test in _AS_TEXT) else kind
    if any(test(kind) for test in _LISTS):
        inner = plain(kind.value_type)
        return None if inner is None else pa.large_list(inner)
    if types.is_struct(kind):
        fields = [(kind.field(n).name, plain(kind.field(n).type)) for n in range(kind.num_fields)]
        return None if any(inner is None for _, inner in fields) else pa.struct(fields)
    return None


def _is_text(kind: pa.DataType) -> bool:
    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind))


def _is_texts(kind: pa.DataType) -> bool:
    return any(test(kind) for test in _LISTS) and _is_text(kind.value_type)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(types.is_binary(kind) or types.is_large_binary(kind))
