"""Archives and tables that were named, on disk or on object storage: each is tried as it is used."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pipeline.config import load_config
from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong
from pipeline.doctor.http import clock
from pipeline.errors import CaptionmillError
from pipeline.remote import Location, RemotePath, location
from pipeline.remote.lock import EXPIRY, NAME

ATTEMPTS = "2"
"""Of a request: a store that is away is told in seconds."""
CONDITIONS = (
    "tables need a store that keeps If-None-Match (AWS, MinIO, ...); archives and shard sets do not"
)


def check(inputs: Inputs) -> Iterator[Finding]:
    """Archives are listed; tables and `shard.store` are also written to."""
    os.environ["AWS_MAX_ATTEMPTS"] = ATTEMPTS
    settings = load_config(inputs.config, inputs.overrides)
    given = [("archive", place) for place in inputs.archives]
    given += [("table", place) for place in inputs.tables]
    if settings.shard.store is not None:
        given.append(("shard.store", settings.shard.store))
    for kind, text in given:
        subject = f"{kind} {text}"
        try:
            place = location(text)
            if kind == "archive":
                yield _archive(subject, place)
            elif isinstance(place, RemotePath):
                yield from _store(subject, place, table=kind == "table")
            else:
                yield _folder(subject, place)
        except CaptionmillError as error:
            yield wrong(subject, str(error), "")
        except OSError as error:
            yield wrong(
                subject, f"{error.filename}: {error.strerror}", "mend the path or its rights"
            )


def _archive(subject: str, place: Location) -> Finding:
    if isinstance(place, RemotePath):
        if place.key and place.is_file():
            return ok(subject, f"an object of {place.stat().st_size:,} bytes")
        first = list(islice(place.entries(below=True), 1))
        if not first:
            return wrong(subject, "there is nothing below this prefix", "mend the URL")
        first[0].path.stat()  # a listing may be allowed where objects are not
        return ok(subject, "lists, and its objects may be asked for")
    if place.is_dir():
        if next(os.scandir(place), None) is None:
            return warning(
                subject, "the folder is empty", "mend the path, or mount what belongs there"
            )
    else:
        with open(place, "rb") as file:
            file.read(1)
    return ok(subject, "can be read")


def _folder(subject: str, place: Path) -> Finding:
    near = next(path for path in [place.absolute(), *place.absolute().parents] if path.exists())
    if not near.is_dir():
        return wrong(subject, f"{near} is a file", "give a directory")
    probe = near / f".tmp-doctor-{uuid.uuid4().hex}"
    probe.write_bytes(b"probe")
    probe.unlink()
    return ok(subject, "can be written" if near == place.absolute() else "can be made")


def _store(subject: str, place: RemotePath, *, table: bool) -> Iterator[Finding]:
    """List, put, get and delete an object of our own."""
    from pipeline.remote import s3

    list(islice(place.entries(), 1))
    probe = place / f".doctor-{uuid.uuid4().hex}"
    content = os.urandom(16)
    s3.put(probe.bucket, probe.key, content)
    try:
        if probe.read_bytes() != content:
            mend = "a cache between this machine and the store must not answer for it"
            yield wrong(subject, "another content is read than was put", mend)
            return
        if table:
            yield _conditions(subject, probe)
        skew = s3.now(probe.bucket, probe.key) + 0.5 - time.time()
    finally:
        probe.unlink()
    if probe.is_file():
        yield wrong(subject, "a deleted object is still there", "look at the store's own log")
        return
    yield ok(subject, "objects can be listed, put, read and deleted")
    yield from clock(subject, skew)
    if table:
        yield from _locked(subject, place)


def _conditions(subject: str, probe: RemotePath) -> Finding:
    from pipeline.remote import s3

    try:
        s3.put(probe.bucket, probe.key, b"", IfNoneMatch="*")
    except FileExistsError:
        return ok(subject, "one writer at a time: the store keeps If-None-Match")
    return wrong(subject, "the store puts over what is there in spite of If-None-Match", CONDITIONS)


def _locked(subject: str, place: RemotePath) -> Iterator[Finding]:
    from pipeline.remote import s3

    try:
        stat = (place / NAME).stat()
    except FileNotFoundError:
        return
    age = s3.now(place.bucket, (place / NAME).key) - stat.st_mtime_ns / 1e9
    if age < EXPIRY:
        yield ok(subject, f"a run holds it, heard of {age:.0f} s ago")
    else:
        text = f"a run that was killed left its lock {age / 60:,.0f} minutes ago"
        yield ok(subject, f"{text}; the next run takes it over")
