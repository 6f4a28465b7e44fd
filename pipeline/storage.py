"""Files that are whole or absent: atomic commits, digests, fingerprints and locks.

Knows no stage. Data is committed before the marker that speaks of it, so a reader
never sees half a file and a kill costs at most the unit in flight. On object storage
a commit is one PUT of the whole object.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from pipeline.errors import BusyError
from pipeline.remote import Location, RemotePath

TEMPORARY = ".tmp-"


Content = bytes | str | Callable[[IO[bytes]], object]
"""Of a file: the bytes, the text (UTF-8), or a function that writes to a binary file."""


def commit(path: Location, content: Content) -> None:
    """Write a whole file at `path`, or nothing: temporary file, flush to disk, rename.

    Parent directories are made. An exception leaves `path` as it was.
    """
    if isinstance(path, RemotePath):
        from pipeline.remote.lock import require_held

        data = _whole(content)
        require_held(path)
        path.write_bytes(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk's error does not say where
        raise
    _sync_directory(path.parent)


def commit_copy(source: Path, path: Location) -> None:
    """`commit` of a local file's content; to object storage a large one goes in parts."""
    with open(source, "rb") as file:
        if isinstance(path, RemotePath):
            path.upload(file)
        else:
            commit(path, lambda out: shutil.copyfileobj(file, out, 1 << 20))


def _whole(content: Content) -> bytes:
    if callable(content):
        file = io.BytesIO()
        content(file)
        return file.getvalue()
    return content.encode() if isinstance(content, str) else content


def commit_json(path: Location, value: Any) -> None:
    """`commit` of `value` as JSON, sorted and indented, the same bytes for the same value."""
    commit(path, json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def commit_directory(path: Path) -> Iterator[Path]:
    """A new directory to fill; it takes the name `path` at the end, whole, or never.

    An existing `path` is replaced. Files are flushed to disk before the rename.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        if path.exists():
            stale = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
            os.replace(path, stale)
            os.replace(temporary, path)
            shutil.rmtree(stale)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_directory(path.parent)


def remove(path: Location) -> None:
    """Delete a file, if it is there, and flush that to disk."""
    if isinstance(path, RemotePath):
        path.unlink()
        return
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Location) -> Any:
    """The JSON value in `path`; FileNotFoundError and json.JSONDecodeError pass through."""
    return parse_json(path.read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """The JSON value of a text; whatever is wrong with it is a json.JSONDecodeError."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except (RecursionError, ValueError):
        # Brackets by the thousand, or a number of more digits than Python converts.
        raise json.JSONDecodeError("nested too deeply, or a number too long", "", 0) from None


def names(directory: Location) -> Iterator[tuple[str, int]]:
    """Name and size in bytes of everything in `directory` that is no folder, in any order."""
    if isinstance(directory, RemotePath):
        yield from ((path.name, stat.st_size) for path, stat in directory.entries())
        return
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir():
                # What is removed meanwhile, and a link to nothing, is not there.
                with contextlib.suppress(FileNotFoundError):
                    yield entry.name, entry.stat().st_size


def contents(directory: Location) -> Iterator[str]:
    """Names of everything in `directory`, folders too; nothing if it is not there."""
    if isinstance(directory, RemotePath):
        start, last = len((directory / "").key) if directory.key else 0, ""
        for path, _ in directory.entries(below=True):
            name = path.key[start:].partition("/")[0]
            if name != last:
                yield name
            last = name
    elif directory.exists():
        yield from os.listdir(directory)


def matching(directory: Location, pattern: str) -> list[Location]:
    """What lies directly in `directory` and has such a name, in order."""
    if isinstance(directory, RemotePath):
        return list(directory.glob(pattern))
    return sorted(directory.glob(pattern))


def is_within(path: Location, directory: Location) -> bool:
    """Whether `path` is `directory` or lies in it, links resolved."""
    if isinstance(path, Path) and isinstance(directory, Path):
        return path.resolve().is_relative_to(directory.resolve())
    return f"{path}/".startswith(f"{directory}/")


def read_many(directory: Location, wanted: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """(name, content) of the files of these names that are in `directory`; others are passed over.

    From object storage many come at once.
    """
    if isinstance(directory, RemotePath):
        from pipeline.remote.spans import read_objects

        yield from read_objects(directory, wanted)
        return
    for name in wanted:
        with contextlib.suppress(FileNotFoundError):
            yield name, (directory / name).read_bytes()


def remove_temporaries(directory: Location) -> None:
    """Delete what killed commits left in `directory` (call it under the directory's `lock`)."""
    if isinstance(directory, RemotePath):
        return  # an object is there whole or not at all
    for path in directory.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def fingerprint(value: Any) -> str:
    """16 hex digits of the SHA-256 of `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def break_lock(directory: Location) -> None:
    """Free a prefix of object storage, whoever holds it; on local disk no lock outlives its owner."""
    if isinstance(directory, RemotePath):
        from pipeline.remote.lock import break_lock

        break_lock(directory)


@contextlib.contextmanager
def lock(directory: Location, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold `directory` for one writer; released by the kernel however the process ends.

    Where another holds it, `wait` is told its process and the lock is waited for; on local disk
    only. On object storage see `pipeline.remote.lock`.

    Raises:
        BusyError: another live process holds it, and nobody waits.
    """
    if isinstance(directory, RemotePath):
        from pipeline.remote import lock as remote

        with remote.lock(directory):
            yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            file.seek(0)
            owner = file.read().strip() or "unknown"
            if wait is None:
                raise BusyError(
                    f"another run (process {owner}) is writing {directory}; wait for it or stop it"
                ) from None
            wait(owner)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
