"""Files that are whole or absent: atomic commits, digests, fingerprints and locks.

Knows no stage. Data is committed before the marker that speaks of it, so a reader
never sees half a file and a kill costs at most the unit in flight.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from pipeline.errors import BusyError

TEMPORARY = ".tmp-"


def commit(path: Path, content: bytes | str | Callable[[IO[bytes]], object]) -> None:
    """Write a whole file at `path`, or nothing: temporary file, flush to disk, rename.

    `content` is the bytes, the text (UTF-8), or a function that writes to a binary file.
    Parent directories are made. An exception leaves `path` as it was.
    """
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


def commit_json(path: Path, value: Any) -> None:
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


def remove(path: Path) -> None:
    """Delete a file, if it is there, and flush that to disk."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Any:
    """The JSON value in `path`; FileNotFoundError and json.JSONDecodeError pass through."""
    return json.loads(path.read_text(encoding="utf-8"))


def remove_temporaries(directory: Path) -> None:
    """Delete what killed commits left in `directory` (call it under the directory's `lock`)."""
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


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Hold `directory` for one writer; released by the kernel however the process ends.

    Raises:
        BusyError: another live process holds it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise BusyError(
                f"another run (process {owner}) is writing {directory}; wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
