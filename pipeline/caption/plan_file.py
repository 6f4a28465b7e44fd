"""One file of members, of the plan or of the log of changes: written once, read, and checked.

A file is called NNNNNN-<digest>.parquet: its number, and the first 16 hex digits of the SHA-256
of its bytes. Files of an earlier version are called by their number alone.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.caption.members import Member, Sidecar
from pipeline.errors import TableError
from pipeline.remote import Location

CHUNK = 65_536
"""Members a file, about: what is held at a time while listing."""

CHUNK_BYTES = 32 << 20
"""Most bytes of names a file, but for the last name: names may have thousands of characters."""

_NAME = re.compile(r"(\d{6,})(?:-([0-9a-f]{16}))?\.parquet")

_SIDECAR = pa.struct([("kind", pa.string()), ("offset", pa.int64()), ("size", pa.int64())])
_SCHEMA = pa.schema(
    [
        ("unit", pa.string()),
        ("name", pa.string()),
        ("occurrence", pa.int32()),
        ("size", pa.int64()),
        ("modified", pa.int64()),
        ("offset", pa.int64()),
        ("reason", pa.string()),
        ("code", pa.string()),
        ("raw", pa.binary()),
        ("sidecars", pa.list_(_SIDECAR)),
    ]
)
_MEMBER = _SCHEMA.names[1:]
COLUMNS = _SCHEMA.names
"""Of a `member_table`."""

T = TypeVar("T")


def chunks(items: Iterable[T], most: int, member: Callable[[T], Member]) -> Iterator[list[T]]:
    """The items in lists for a file each: up to `most` of them, and CHUNK_BYTES of names."""
    chunk: list[T] = []
    held = 0
    for item in items:
        chunk.append(item)
        held += len(member(item).name.encode())
        if len(chunk) == most or held >= CHUNK_BYTES:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def member_table(units: list[str], members: list[Member]) -> pa.Table:
    """Members and the units they belong to, in columns."""
    columns = [pa.array(units, pa.string())]
    for name in _MEMBER:
        columns.append(pa.array([_cell(m, name) for m in members], _SCHEMA.field(name).type))
    return pa.Table.from_arrays(columns, schema=_SCHEMA)


def _cell(member: Member, name: str) -> Any:
    value = getattr(member, name)
    return [sidecar._asdict() for sidecar in value] if name == "sidecars" else value


def members_of(table: pa.Table) -> list[Member]:
    """The members of a `member_table`."""
    columns = [table[name].to_pylist() for name in _MEMBER]
    columns[-1] = [tuple(Sidecar(**sidecar) for sidecar in found) for found in columns[-1]]
    return [Member(*cells) for cells in zip(*columns, strict=True)]


def commit_file(directory: Location, number: int, table: pa.Table) -> None:
    """Commit a Parquet file that `read_file` reads."""
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    content = file.getvalue()
    storage.commit(directory / f"{number:06d}-{_digest(content)}.parquet", content)


def files(directory: Location, first: int) -> list[Location]:
    """The files of a directory, by number; that of the oldest is `first`.

    Raises:
        TableError: one is lost, or a file of something else lies among them.
    """
    found = storage.matching(directory, "*.parquet")
    for number, path in enumerate(found, first):
        name = _NAME.fullmatch(path.name)
        if name is None:
            raise foreign(path)
        if int(name[1]) != number:
            raise TableError(
                f"{directory} has no file {number:06d}, but {path.name}, and so no account of the"
                " table; put the file back from a copy, or caption into another --table directory"
            )
    return found


def read_file(path: Location, columns: list[str] | None = None) -> pa.Table:
    """What `commit_file` wrote: these columns, or all.

    The pages' check sums are verified; the digest of the whole file where all columns are read.

    Raises:
        TableError: it is damaged.
    """
    try:
        with pq.ParquetFile(
            _file(path, whole=columns is None), page_checksum_verification=True
        ) as file:
            found = file.read(columns)
    except (OSError, pa.ArrowException):
        raise _damaged(path) from None
    if not set(columns or COLUMNS) <= set(found.column_names):
        raise foreign(path)
    return found


def read_header(path: Location) -> dict[bytes, bytes]:
    """What a plan file says of its source."""
    try:
        header = pq.read_schema(_file(path)).metadata or {}
    except (OSError, pa.ArrowException):
        raise _damaged(path) from None
    return checked(path, header)


def checked(path: Location, header: Mapping[bytes, bytes] | None) -> dict[bytes, bytes]:
    """A plan file's header, which tells `source`, `path` and `kind`."""
    if not header or not {b"source", b"path", b"kind"} <= header.keys():
        raise foreign(path)
    return dict(header)


def _file(path: Location, *, whole: bool = False) -> Any:
    """What Parquet reads: the file itself, or its bytes, if all of them are to be checked."""
    if isinstance(path, Path) and not whole:
        return path
    content = path.read_bytes()
    name = _NAME.fullmatch(path.name)
    if name is not None and name[2] not in (None, _digest(content)):
        raise _damaged(path)
    return pa.BufferReader(content)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def foreign(path: Location) -> TableError:
    """The error of a file of something else."""
    return TableError(f"{path} is no file of a caption table's plan; take it away, and run again")


def _damaged(path: Location) -> TableError:
    return TableError(
        f"the plan file {path} is damaged, and with it the table's account;"
        " put it back from a copy, or caption into another --table directory"
    )
