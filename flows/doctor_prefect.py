"""The doctor's check of a Prefect server: does it answer, will it start the runs it is asked for."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong
from pipeline.doctor.http import Answer, ask, clock, reason

if TYPE_CHECKING:
    from flows.deployments import Deployment

SUBJECT = "prefect"
LATE = {"flow_runs": {"state": {"name": {"any_": ["Late"]}}}}


def check(inputs: Inputs) -> Iterator[Finding]:
    """Server, pools, workers, deployments."""
    url = os.environ.get("PREFECT_API_URL", "").rstrip("/")
    if not url:
        yield ok(
            SUBJECT, "no server configured: retrain and demo start one for as long as they run"
        )
        return
    try:
        health = _ask(url, "/health")
        version = _ask(url, "/admin/version")
    except OSError as error:
        mend = "start it (prefect server start), or mend PREFECT_API_URL, which ends with /api"
        yield wrong(SUBJECT, f"{url} does not answer: {reason(error)}", mend)
        return
    if version.status in (401, 403):
        mend = "set PREFECT_API_AUTH_STRING to the server's NAME:PASSWORD"
        yield wrong(SUBJECT, f"{url} refuses (HTTP {version.status})", mend)
        return
    theirs = version.json()
    if health.status != 200 or not isinstance(theirs, str):
        mend = "mend PREFECT_API_URL; it ends with /api"
        yield wrong(SUBJECT, f"what answers at {url} is no Prefect server", mend)
        return
    yield _versions(url, theirs)
    yield from clock(SUBJECT, version.skew)
    try:
        found = _deployments_there(url)
        yield from _deployments(found)
        if found:
            pools = {str(each.get("work_pool_name")) for each in found.values()}
            yield from _pools(url, sorted(pools))
            yield _watched(Path(inputs.work))
    except OSError as error:
        yield wrong(SUBJECT, f"{url} broke off: {reason(error)}", "look at the server's log")


def _ask(url: str, path: str, content: Any = None) -> Answer:
    login = os.environ.get("PREFECT_API_AUTH_STRING")
    key = os.environ.get("PREFECT_API_KEY")
    if login is None and key is not None:
        login = f"Bearer {key}"
    if content is None:
        return ask(url, path, login=login)
    return ask(url, path, method="POST", content=json.dumps(content).encode(), login=login)


def _rows(url: str, path: str, content: dict[str, Any]) -> list[dict[str, Any]]:
    answer = _ask(url, path, content)
    rows = answer.json()
    if answer.status != 200 or not isinstance(rows, list):
        raise OSError(f"HTTP {answer.status} for {path}")
    return rows


def _versions(url: str, theirs: str) -> Finding:
    try:
        ours = metadata.version("prefect")
    except metadata.PackageNotFoundError:
        return wrong(SUBJECT, "Prefect is not installed here", "pip install 'prefect>=3.6,<4'")
    there, here = ([int(part) for part in text.split(".")[:2]] for text in (theirs, ours))
    text = f"{url} answers, version {theirs}; here is {ours}"
    if there[0] != here[0] or there < here:
        mend = f"upgrade the server first, or install its version here: pip install 'prefect=={theirs}'"
        return wrong(SUBJECT, text, mend)
    return ok(SUBJECT, text)


def _deployments_there(url: str) -> dict[str, dict[str, Any]]:
    from flows.deployments import TAG

    tagged = {"deployments": {"tags": {"all_": [TAG]}}}
    return {each["name"]: each for each in _rows(url, "/deployments/filter", tagged)}


def _deployments(found: dict[str, dict[str, Any]]) -> Iterator[Finding]:
    from flows.deployments import PREFECT_YAML, read_deployments

    asked = {each.name: each for each in read_deployments(PREFECT_YAML, {})}
    if not found:
        yield warning(SUBJECT, "no deployment is registered", "captionmill deploy")
        return
    missing = [name for name in asked if name not in found]
    older = [name for name in asked if name in found and not _is_same(found[name], asked[name])]
    paused = [name for name, each in found.items() if each.get("paused")]
    if missing:
        yield warning(SUBJECT, f"not registered: {', '.join(missing)}", "captionmill deploy")
    if older:
        text = f"registered by another version of this program: {', '.join(older)}"
        yield warning(SUBJECT, text, "captionmill deploy")
    if paused:
        mend = "resume them in the UI, or leave them if you meant it"
        yield warning(SUBJECT, f"paused: {', '.join(paused)}", mend)
    if not missing and not older and not paused:
        yield ok(SUBJECT, f"deployments: {', '.join(sorted(found))}")


def _pools(url: str, names: list[str]) -> Iterator[Finding]:
    known = {each["name"]: each for each in _rows(url, "/work_pools/filter", {"limit": 200})}
    for name in names:
        subject = f"pool {name}"
        if name not in known:
            yield wrong(subject, "is not there", "captionmill deploy")
            continue
        workers = _rows(url, f"/work_pools/{name}/workers/filter", {"limit": 200})
        online = sorted(each["name"] for each in workers if each.get("status") == "ONLINE")
        if known[name].get("is_paused"):
            mend = f"prefect work-pool resume {name}"
            yield warning(subject, "is paused: its runs wait", mend)
        if not online:
            mend = (
                f"prefect worker start --pool {name}, as a service on the machine that is to work"
            )
            yield wrong(subject, "no worker is online: its runs wait for ever", mend)
        else:
            yield ok(subject, f"{len(online)} worker{'s' * (len(online) > 1)} online")
    late = _rows(url, "/flow_runs/filter", LATE)
    if late:
        mend = "start or free a worker of their pool; prefect flow-run ls --state Late"
        yield warning(SUBJECT, f"{len(late)} runs are late: no worker took them up", mend)


def _is_same(registered: dict[str, Any], asked: Deployment) -> bool:
    """Whether the server knows this program's flow and its parameters; their values are a user's."""
    schema = json.loads(json.dumps(asked.form()))
    same = registered.get("parameter_openapi_schema") == schema
    return bool(same and registered.get("entrypoint") == asked.entrypoint)


def _watched(work: Path) -> Finding:
    """Whether a watcher holds its turn; taking a shared lock for a moment is in nobody's way."""
    from flows.runs import RUNS

    try:
        with open(work / RUNS / "watch.turn", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return ok(SUBJECT, "captionmill watch looks after the runs")
    except OSError:
        pass  # there never was one
    text = f"no captionmill watch is seen in {work}: nobody restarts runs whose worker died"
    return warning(SUBJECT, text, f"captionmill watch --work {work}, as a service")
