"""One writer for a prefix: an object that only one can put, and that is put again while it is held.

Object stores have no locks that end with their process. This one is an object that is created under
a condition (`If-None-Match: *`), names its owner, and is renewed every `BEAT` seconds. It is free
when its owner deletes it; when it was not renewed for `EXPIRY` seconds, by the store's clock; at
once when its owner ran on this machine and is dead; or when a user breaks it. A run that finds its
own lock lost, or cannot renew it in time, commits nothing more.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import BusyError, StorageError
from pipeline.remote import s3
from pipeline.remote.path import RemotePath

EXPIRY = 60.0
"""Seconds without a renewal after which a lock is free."""
BEAT = 10.0
"""Seconds between two renewals."""
NAME = ".lock"

_HELD: dict[RemotePath, Held] = {}
"""By prefix, the locks of this process."""


class Held:
    """A lock that this process holds, and renews until it is released."""

    def __init__(self, directory: RemotePath) -> None:
        """Take the lock.

        Raises:
            BusyError: another run holds it.
        """
        self.directory, self.path = directory, directory / NAME
        self.owner = {"owner": uuid.uuid4().hex, **_process()}
        self._renewed = time.monotonic()
        self._tag = self._take()
        self._lost = False
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _content(self) -> bytes:
        # Another content each time: the tag of what was put is the condition of the next.
        return json.dumps({**self.owner, "renewal": uuid.uuid4().hex}).encode()

    def _take(self) -> str:
        bucket, key = self.path.bucket, self.path.key
        for _ in range(3):
            with contextlib.suppress(FileExistsError):
                tag = s3.put(bucket, key, self._content(), IfNoneMatch="*")
                self._require_conditions()
                return tag
            try:
                content, stat = self.path.read_bytes(), self.path.stat()
                age = s3.now(bucket, key) - stat.st_mtime_ns / 1e9
            except FileNotFoundError:
                continue  # released just now
            theirs = _parsed(content)
            if theirs.get("owner") == self.owner["owner"]:
                return stat.etag  # the store took it, and its answer was lost
            if age < EXPIRY and not _is_dead(theirs):
                raise self._busy(theirs, age)
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                return s3.put(bucket, key, self._content(), IfMatch=stat.etag)
        raise self._busy({}, 0.0)

    def _require_conditions(self) -> None:
        try:
            s3.put(self.path.bucket, self.path.key, self._content(), IfNoneMatch="*")
        except FileExistsError:
            return
        s3.delete(self.path.bucket, self.path.key)
        raise StorageError(
            f"{self.directory}: the store does not keep the condition If-None-Match, so that two runs "
            "could write at once; write to local disk and copy, or use a store that does"
        )

    def _busy(self, owner: dict[str, Any], age: float) -> BusyError:
        machine = str(owner.get("host", "an unknown machine")).partition(" ")[0]
        who = f"process {owner.get('pid', 'unknown')} on {machine}"
        return BusyError(
            f"another run ({who}, heard of {age:.0f} s ago) is writing {self.directory}; wait for it "
            f"or stop it. If it was killed, its lock is free after {EXPIRY:.0f} s, or at once with "
            "--break-lock"
        )

    def _renew(self) -> None:
        while not self._released.wait(BEAT):
            started = time.monotonic()
            try:
                tag = s3.put(self.path.bucket, self.path.key, self._content(), IfMatch=self._tag)
            except (FileExistsError, FileNotFoundError):
                if not self._is_ours():
                    self._lost = True
                    return
            except StorageError:
                continue  # commits stop when this goes on for too long
            else:
                self._tag, self._renewed = tag, started

    def _is_ours(self) -> bool:
        """Whether it still names us; a renewal whose answer was lost leaves another tag."""
        try:
            content, stat = self.path.read_bytes(), self.path.stat()
        except (FileNotFoundError, StorageError):
            return False
        self._tag = stat.etag
        return bool(_parsed(content).get("owner") == self.owner["owner"])

    def require(self) -> None:
        """Nothing, while the lock is held.

        Raises:
            BusyError: it was broken, or could not be renewed in time.
        """
        if self._lost or time.monotonic() - self._renewed > EXPIRY:
            raise BusyError(
                f"this run no longer holds the lock of {self.directory}: another run broke it, or the "
                f"store could not be reached for {EXPIRY:.0f} s; run the same command again"
            )

    def release(self) -> None:
        """Delete the lock, if it is ours still."""
        self._released.set()
        self._thread.join()
        # A store that is gone frees the lock by itself in time.
        with contextlib.suppress(StorageError):
            if not self._lost and self._is_ours():
                self.path.unlink()


@contextlib.contextmanager
def lock(directory: RemotePath) -> Iterator[None]:
    """Hold the prefix for one writer.

    Raises:
        BusyError: another run holds it.
        StorageError: the store cannot be reached, or has no conditional requests.
    """
    held = _HELD[directory] = Held(directory)
    try:
        yield
    finally:
        del _HELD[directory]
        held.release()


def require_held(path: RemotePath) -> None:
    """Nothing, unless `path` lies under a lock of this process that is lost.

    Raises:
        BusyError: it does.
    """
    for directory, held in list(_HELD.items()):
        if path.bucket == directory.bucket and path.key.startswith((directory / "").key):
            held.require()


def break_lock(directory: RemotePath) -> None:
    """Delete the lock of a prefix, whoever holds it; a live owner then stops at its next commit."""
    (directory / NAME).unlink()


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _process() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": _machine(), "pid": pid, "started": _started(pid)}


def _machine() -> str:
    """This machine, or container: where process numbers mean the same processes."""
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    return socket.gethostname()


def _is_dead(owner: dict[str, Any]) -> bool:
    """Whether the owner ran on this machine, and does not any more."""
    mine = _process()
    if owner.get("host") != mine["host"] or not mine["started"] or not owner.get("started"):
        return False
    return bool(owner["started"] != _started(owner.get("pid")))


def _started(pid: object) -> str:
    """When a process of this machine was started, in the kernel's terms; empty if there is none."""
    with contextlib.suppress(OSError, IndexError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        if ticks[0] != "Z":
            return f"{boot} {ticks[19]}"
    return ""
