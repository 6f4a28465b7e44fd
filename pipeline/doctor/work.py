"""The work directory: whether commits and locks hold there, what room is left, what lies about."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from pipeline import storage
from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong

GB = 1 << 30
LEAST_ROOM, ENOUGH_ROOM = 1 * GB, 20 * GB
LEAST_FILES = 10_000
NETWORK = ("nfs", "cifs", "smb", "9p", "fuse.", "lustre", "ceph", "gluster", "afs", "beegfs")
FLEETING = ("tmpfs", "ramfs", "overlay")
OLD_SECONDS = 24 * 3600
DEPTH = 3
"""Folders below the work directory that are looked into for what was left behind."""
TRY_LOCK = (
    "import fcntl, sys\n"
    "try: fcntl.flock(open(sys.argv[1], 'a'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    "except OSError: sys.exit(3)\n"
)


def check(inputs: Inputs) -> Iterator[Finding]:
    """Try the place for real, in a directory of its own that is removed again."""
    work = Path(inputs.work)
    place = next(path for path in [work, *work.parents] if path.exists())
    if not place.is_dir():
        yield wrong("work directory", f"{place} is a file", "give another --work")
        return
    yield from _file_system(place)
    yield from _room(place)
    yield _commits(place, work)
    if work.is_dir():
        yield from _left_behind(work)


def _commits(place: Path, work: Path) -> Finding:
    """Write, flush, rename, list and lock, as every stage does."""
    subject, probe = "work directory", place / f"{storage.TEMPORARY}doctor-{uuid.uuid4().hex}"
    try:
        probe.mkdir()
    except OSError as error:
        mend = "give another --work, or the right to write there"
        return wrong(subject, f"{place} cannot be written: {error.strerror}", mend)
    try:
        try:
            for content in ("first", "second"):
                storage.commit(probe / "probe", content)
        except OSError as error:
            mend = "make room, or give a --work that may be written"
            return wrong(subject, f"{place} takes no files: {error.strerror}", mend)
        if sorted(path.name for path in probe.iterdir()) != ["probe"]:
            mend = "give a --work on a local disk"
            return wrong(subject, f"a file that was renamed in {place} has two names", mend)
        if (probe / "probe").read_text() != "second":
            mend = "give a --work on a local disk"
            return wrong(subject, f"{place} reads back another content than was written", mend)
        if not _locks(probe):
            mend = (
                "give a --work on a local disk, or mount it with locks (NFS: version 4, no nolock)"
            )
            return wrong(subject, f"{place} has no locks: two runs could write at once", mend)
    finally:
        for path in probe.iterdir():
            path.unlink()
        probe.rmdir()
    made = "" if work.is_dir() else ", made by the first run"
    return ok(subject, f"{work}{made}: writing, renaming and locking work")


def _locks(probe: Path) -> bool:
    """Whether another process is kept out while one holds the lock, and let in after it."""
    command = [sys.executable, "-S", "-c", TRY_LOCK, str(probe / "lock")]
    with open(probe / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        kept_out = subprocess.run(command, check=False, timeout=10).returncode == 3
    return kept_out and subprocess.run(command, check=False, timeout=10).returncode == 0


def _file_system(place: Path) -> Iterator[Finding]:
    kind = file_system(place)
    if kind is None:
        return  # not Linux
    if kind.startswith(NETWORK):
        yield warning(
            "file system",
            f"{place} is on {kind}: a lock may not be seen from other machines, and may outlive its owner",
            "let one machine write at a time, or keep --work on a local disk and tables on s3://",
        )
    elif kind.startswith(FLEETING):
        text = f"{place} is on {kind}: it is gone with the machine's or container's next start"
        yield warning("file system", text, "give a --work on a disk or a volume")
    else:
        yield ok("file system", f"{kind} at {place}")


def file_system(place: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The type of file system that holds `place`, of the last mount that covers it."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    best, kind = Path(), None
    for line in lines:
        before, _, after = line.partition(" - ")
        at = Path(before.split()[4].encode().decode("unicode_escape"))
        if place.resolve().is_relative_to(at) and len(at.parts) >= len(best.parts):
            best, kind = at, after.split()[0]
    return kind


def _room(place: Path) -> Iterator[Finding]:
    found = os.statvfs(place)
    if found.f_blocks == 0:
        return  # no disk, as below /proc
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    text = f"{free / GB:.1f} of {total / GB:.1f} GiB free at {place}"
    mend = "make room, or give a --work on a larger disk; captionmill gc lists what nothing needs"
    if free < LEAST_ROOM:
        yield wrong("disk", text, mend)
    elif free < ENOUGH_ROOM:
        yield warning("disk", text, mend)
    else:
        yield ok("disk", text)
    if found.f_files and found.f_favail < LEAST_FILES:
        yield wrong("disk", f"{found.f_favail:,} files can still be made at {place}", mend)


def _left_behind(work: Path) -> Iterator[Finding]:
    """What killed runs left, and who is at work now."""
    for path in sorted(work.glob("promote/pending-*.json")):
        yield warning(
            "promotion",
            f"{path.name}: a move of aliases was cut off",
            "run promote, approve or rollback again: the next one finishes it first",
        )
    old, held = 0, _held_files()
    for depth in range(1, DEPTH + 1):
        for path in work.glob("/".join(["*"] * depth)):
            # By name first: a table may have files by the hundred thousand.
            if not path.name.startswith((storage.TEMPORARY, ".lock")):
                continue
            try:
                facts = path.lstat()
            except FileNotFoundError:
                continue
            if path.name.startswith(storage.TEMPORARY):
                old += time.time() - facts.st_mtime > OLD_SECONDS
            elif facts.st_ino in held:
                owner = path.read_text(errors="replace").strip() or "unknown"
                yield ok("in use", f"{path.parent} by process {owner}")
    if old:
        text = f"{old} temporary files and folders of killed runs are older than a day"
        yield warning("left behind", text, "captionmill gc lists them, gc --delete removes them")


def _held_files() -> set[int]:
    """Inodes that a lock is held on; read from the kernel, since trying would be in a run's way."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return set()
    return {int(line.split()[5].rpartition(":")[2]) for line in lines if "FLOCK" in line}
