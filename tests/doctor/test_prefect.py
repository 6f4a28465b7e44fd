"""Prefect servers that are away, strangers, older, empty, or without workers.

A real server is asked in tests/operations.
"""

from __future__ import annotations

import base64
import fcntl
import json
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from flows import doctor_prefect
from pipeline.doctor import Finding, Inputs

OURS = version("prefect")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server(stranger: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server of our version with the pools and deployments of prefect.yaml, and a worker each."""
    from flows.deployments import PREFECT_YAML, read_deployments

    monkeypatch.setenv("PREFECT_API_URL", f"{stranger.url}/api/")
    monkeypatch.setattr(doctor_prefect, "_is_same", lambda *_: True)
    stranger.deployments = [
        {"name": each.name, "work_pool_name": each.work_pool.name, "paused": False}
        for each in read_deployments(PREFECT_YAML, {})
    ]
    stranger.pools = [{"name": "cpu", "is_paused": False}, {"name": "gpu", "is_paused": False}]
    stranger.workers = {"cpu": [{"name": "a", "status": "ONLINE"}], "gpu": []}
    stranger.workers["gpu"] = [
        {"name": "b", "status": "ONLINE"},
        {"name": "c", "status": "OFFLINE"},
    ]
    stranger.late = []
    return stranger


def found(server: Any, work: Path = Path("/w")) -> list[Finding]:
    answers = {
        ("GET", "/api/health"): True,
        ("GET", "/api/admin/version"): OURS,
        ("POST", "/api/deployments/filter"): server.deployments,
        ("POST", "/api/work_pools/filter"): server.pools,
        ("POST", "/api/flow_runs/filter"): server.late,
    }
    for name, workers in server.workers.items():
        answers["POST", f"/api/work_pools/{name}/workers/filter"] = workers
    server.answers = {
        **{key: (200, json.dumps(value)) for key, value in answers.items()},
        **server.answers,
    }
    return list(doctor_prefect.check(Inputs(work=str(work))))


def bad(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(each.status, each.text) for each in findings if each.status != "ok"]


def test_no_server_is_well() -> None:
    (finding,) = doctor_prefect.check(Inputs(work="/w"))
    assert finding.status == "ok"


def test_a_port_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("PREFECT_API_URL", f"http://ann:hunter2@127.0.0.1:{port}/api")
    (finding,) = doctor_prefect.check(Inputs(work="/w"))
    assert finding.status == "wrong"
    assert "ann:***@" in finding.text
    assert "connection refused" in finding.text


def test_all_is_well(server: Any, tmp_path: Path) -> None:
    (tmp_path / "flow-runs").mkdir()
    with open(tmp_path / "flow-runs" / "watch.turn", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        findings = found(server, tmp_path)
    assert bad(findings) == []
    assert [each.text for each in findings if each.subject == "pool gpu"] == ["1 worker online"]
    after = bad(found(server, tmp_path))
    assert [status for status, _ in after] == ["warning"]
    assert "nobody restarts runs" in after[0][1]


def test_the_login_is_sent(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:hunter2")
    found(server)
    assert set(server.logins) == {f"Basic {base64.b64encode(b'ann:hunter2').decode()}"}


def test_a_server_that_wants_a_login(server: Any) -> None:
    server.answers["GET", "/api/admin/version"] = (401, "{}")
    (finding,) = found(server)
    assert (finding.status, "PREFECT_API_AUTH_STRING" in finding.mend) == ("wrong", True)


def test_a_stranger(server: Any) -> None:
    server.answers["GET", "/api/admin/version"] = (200, "<html>")
    (finding,) = found(server)
    assert "is no Prefect server" in finding.text


@pytest.mark.parametrize(
    ("theirs", "status"), [("2.20.0", "wrong"), ("3.0.0", "wrong"), ("3.99.0", "ok")]
)
def test_versions(server: Any, theirs: str, status: str) -> None:
    server.answers["GET", "/api/admin/version"] = (200, json.dumps(theirs))
    assert found(server)[0].status == status


def test_nothing_registered(server: Any) -> None:
    server.deployments = []
    assert bad(found(server)) == [("warning", "no deployment is registered")]


def test_what_is_missing_paused_or_older(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_prefect, "_is_same", lambda there, _: there["name"] != "caption")
    server.deployments = [
        {**each, "paused": each["name"] == "retrain"}
        for each in server.deployments
        if each["name"] != "score"
    ]
    texts = [text for _, text in bad(found(server))]
    assert texts[:3] == [
        "not registered: score",
        "registered by another version of this program: caption",
        "paused: retrain",
    ]


def test_pools_that_start_nothing(server: Any) -> None:
    server.pools[0]["is_paused"] = True
    server.workers["gpu"] = [{"name": "c", "status": "OFFLINE"}]
    server.late = [{"id": "1"}, {"id": "2"}]
    texts = bad(found(server))
    assert ("warning", "is paused: its runs wait") in texts
    assert ("wrong", "no worker is online: its runs wait for ever") in texts
    assert ("warning", "2 runs are late: no worker took them up") in texts
    server.answers = {}
    server.pools = server.pools[1:]
    assert ("wrong", "is not there") in bad(found(server))


def test_a_server_that_breaks_off(server: Any) -> None:
    server.answers["POST", "/api/work_pools/filter"] = (500, "oops")
    assert ("wrong", True) in [(each.status, "HTTP 500" in each.text) for each in found(server)]
