"""MLflow: the server, its store of files, and whether aliases point at versions that are there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong
from pipeline.doctor.http import ask, clock, reason
from pipeline.errors import CaptionmillError
from pipeline.tracking import Tracker
from pipeline.tracking.lease import STALE_SECONDS

SUBJECT = "mlflow"
FILES = "/api/2.0/mlflow-artifacts/artifacts"


def check(inputs: Inputs) -> Iterator[Finding]:
    """The server first, if there is one; what it holds only if it answers."""
    tracker = Tracker(Path(inputs.work))
    if tracker.unused():
        yield ok(SUBJECT, f"none configured; the first run makes {tracker.database}")
        return
    if tracker.uri.startswith("http"):
        findings = list(_server(tracker.uri))
        yield from findings
        if any(finding.status == "wrong" for finding in findings):
            return
    elif tracker.local:
        yield ok(SUBJECT, f"{tracker.database}, {tracker.database.stat().st_size / 1e6:.1f} MB")
    try:
        yield from _models(tracker)
    except CaptionmillError as error:
        yield wrong(SUBJECT, str(error), "")


def login() -> str | None:
    """What MLflow's client sends."""
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if token:
        return f"Bearer {token}"
    name = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return f"{name}:{os.environ.get('MLFLOW_TRACKING_PASSWORD', '')}" if name else None


def _server(url: str) -> Iterator[Finding]:
    try:
        answer = ask(url, "/version", login=login())
    except OSError as error:
        mend = "start it, or mend MLFLOW_TRACKING_URI"
        yield wrong(SUBJECT, f"{url} does not answer: {reason(error)}", mend)
        return
    if answer.status in (401, 403):
        mend = (
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; for 403 also the server's "
        )
        mend += "--allowed-hosts must name this host"
        yield wrong(SUBJECT, f"{url} refuses (HTTP {answer.status})", mend)
        return
    if answer.status != 200 or not answer.text[:1].isdigit():
        mend = "mend MLFLOW_TRACKING_URI"
        yield wrong(SUBJECT, f"what answers at {url} is no MLflow (HTTP {answer.status})", mend)
        return
    yield from _versions(url, answer.text.strip())
    yield from clock(SUBJECT, answer.skew)
    yield _proxy(url)


def _versions(url: str, theirs: str) -> Iterator[Finding]:
    try:
        ours = metadata.version("mlflow")
    except metadata.PackageNotFoundError:
        yield wrong(SUBJECT, "MLflow is not installed here", "pip install 'mlflow>=3.13,<4'")
        return
    there, here = ([int(part) for part in text.split(".")[:2]] for text in (theirs, ours))
    text = f"{url} answers, version {theirs}; here is {ours}"
    if there[0] != here[0]:
        yield wrong(SUBJECT, text, f"pip install 'mlflow=={theirs}', or upgrade the server")
    elif there < here:
        yield warning(SUBJECT, text, "upgrade the server first (docs/operations.md)")
    else:
        yield ok(SUBJECT, text)


def _proxy(url: str) -> Finding:
    """Put a file through the server, read it, delete it: what registering a model needs."""
    path, content = f"{FILES}/captionmill-doctor-{uuid.uuid4().hex}", b"probe"
    mend = "look at the server's log: its --artifacts-destination, and its credentials for it"
    try:
        put = ask(
            url,
            f"{path}/probe",
            method="PUT",
            content=content,
            kind="application/octet-stream",
            login=login(),
        )
        if put.status in (404, 503):
            what = (
                "the server does not pass files on, so this machine must reach their store itself"
            )
            return warning(SUBJECT, what, "start it with --serve-artifacts, or give AWS_* here")
        got = ask(url, f"{path}/probe", login=login())
        gone = ask(url, path, method="DELETE", login=login())
    except OSError as error:
        return wrong(SUBJECT, f"files through the server: {reason(error)}", mend)
    for what, answer in (("written", put), ("read", got), ("deleted", gone)):
        if answer.status not in (200, 204):
            text = f"a file could not be {what} through the server (HTTP {answer.status})"
            return wrong(SUBJECT, text, mend)
    if got.text != content.decode():
        return wrong(SUBJECT, "a file came back changed through the server", mend)
    return ok(SUBJECT, "files can be written, read and deleted through the server")


def _models(tracker: Tracker) -> Iterator[Finding]:
    names = tracker.names()
    if not names:
        yield ok(SUBJECT, "no model is registered yet")
    for name in names:
        versions = {version.version for version in tracker.versions(name)}
        aliases = tracker.aliases(name)
        lost = {alias: version for alias, version in aliases.items() if version not in versions}
        pointing = ", ".join(f"{alias} -> {version}" for alias, version in aliases.items())
        many = f"{len(versions)} version{'s' * (len(versions) != 1)}"
        text = f"{name}: {many}, {pointing or 'no alias'}"
        if lost:
            mend = f"captionmill rollback --name {name} --to N --reason ..., to a version that is there"
            yield wrong(SUBJECT, f"{text}; {', '.join(lost)} point at versions that are gone", mend)
        elif "champion" not in aliases:
            mend = "captionmill approve, or a promotion that passes"
            yield warning(SUBJECT, f"{text}: nobody is champion", mend)
        else:
            yield ok(SUBJECT, text)
    for name, seconds in tracker.leases().items():
        if seconds > STALE_SECONDS:
            text = f"a promotion of {name} was killed {seconds / 60:,.0f} minutes ago amid its move"
            mend = "run promote, approve or rollback again: the next one takes over and finishes it"
            yield warning(SUBJECT, text, mend)
