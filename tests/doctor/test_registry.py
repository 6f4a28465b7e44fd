"""MLflow servers that are away, silent, strangers, older, skewed, or cannot reach their files."""

from __future__ import annotations

import base64
import shutil
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from pipeline.doctor import Finding, Inputs, champion, http, registry
from pipeline.tracking import Tracker

OURS = version("mlflow")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def found(work: Path) -> list[Finding]:
    return list(registry.check(Inputs(work=str(work))))


def server(stranger: Any, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", stranger.url)
    return list(registry._server(stranger.url))


def test_nothing_configured_and_nothing_made(tmp_path: Path) -> None:
    (finding,) = found(tmp_path)
    assert finding.status == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_port_where_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:hunter2@127.0.0.1:{port}")
    (finding,) = found(tmp_path)
    assert finding.status == "wrong"
    assert "connection refused" in finding.text
    assert "ann:***@" in finding.text
    assert "hunter2" not in finding.text


def test_a_server_that_accepts_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        (finding,) = found(tmp_path)
    assert finding.status == "wrong"
    assert "no answer in" in finding.text


def test_an_address_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://[not an address")
    assert [each.status for each in found(tmp_path)] == ["wrong"]


def test_a_stranger(stranger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = server(stranger, monkeypatch)
    assert finding.text == f"what answers at {stranger.url} is no MLflow (HTTP 404)"


def test_a_server_that_wants_a_password(stranger: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger.answers["GET", "/version"] = (401, "")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    (finding,) = server(stranger, monkeypatch)
    assert (finding.status, "MLFLOW_TRACKING_USERNAME" in finding.mend) == ("wrong", True)
    assert stranger.logins == [f"Basic {base64.b64encode(b'ann:hunter2').decode()}"]


@pytest.mark.parametrize(
    ("theirs", "status"),
    [(OURS, "ok"), ("3.0.1", "warning"), ("2.9.0", "wrong"), ("4.0.0", "wrong")],
)
def test_versions(stranger: Any, monkeypatch: pytest.MonkeyPatch, theirs: str, status: str) -> None:
    stranger.answers["GET", "/version"] = (200, theirs)
    assert server(stranger, monkeypatch)[0].status == status


@pytest.mark.parametrize(
    ("ahead", "status"), [(0, "ok"), (60, "warning"), (-60, "warning"), (3600, "wrong")]
)
def test_clocks(stranger: Any, monkeypatch: pytest.MonkeyPatch, ahead: float, status: str) -> None:
    stranger.ahead = ahead
    stranger.answers["GET", "/version"] = (200, OURS)
    clock = server(stranger, monkeypatch)[1]
    assert (clock.status, "clock" in clock.text) == (status, True)


@pytest.mark.parametrize(
    ("answers", "status", "words"),
    [
        ({"PUT": (200, ""), "GET": (200, "probe"), "DELETE": (200, "")}, "ok", "read and deleted"),
        ({"PUT": (500, ""), "GET": (500, ""), "DELETE": (500, "")}, "wrong", "not be written"),
        (
            {"PUT": (200, ""), "GET": (200, "other"), "DELETE": (200, "")},
            "wrong",
            "came back changed",
        ),
        ({"PUT": (200, ""), "GET": (200, "probe"), "DELETE": (500, "")}, "wrong", "not be deleted"),
        ({"PUT": (503, "")}, "warning", "does not pass files on"),
    ],
)
def test_files_through_the_server(
    stranger: Any,
    monkeypatch: pytest.MonkeyPatch,
    answers: dict[str, tuple[int, str]],
    status: str,
    words: str,
) -> None:
    stranger.answers = {(method, "*"): answer for method, answer in answers.items()}
    stranger.answers["GET", "/version"] = (200, OURS)
    finding = server(stranger, monkeypatch)[-1]
    assert finding.status == status
    assert words in finding.text


@pytest.fixture
def registered(work: Path, save_captioner: Any, tmp_path: Path) -> Path:
    directory = save_captioner(tmp_path / "captioner", ["a red square", "a blue circle"])
    tracker = Tracker(work)
    made = tracker.register("captioner", directory, None)
    tracker.set_alias("captioner", "champion", made.version)
    return work


def test_a_champion_loads_and_captions(registered: Path) -> None:
    assert [each.text for each in found(registered)][1:] == ["captioner: 1 version, champion -> 1"]
    before = {path for path in registered.rglob("*") if ".db" not in path.name}
    (finding,) = champion.check(Inputs(work=str(registered)))
    assert (finding.status, finding.text) == ("ok", "captioner/1 loads, and captions")
    assert {path for path in registered.rglob("*") if ".db" not in path.name} == before


def test_a_champion_whose_files_are_gone(registered: Path) -> None:
    shutil.rmtree(registered / "mlflow-artifacts")
    (finding,) = champion.check(Inputs(work=str(registered)))
    assert finding.status == "wrong"
    assert "its files are gone" in finding.text


def test_a_damaged_champion_is_told_with_the_way_back(registered: Path) -> None:
    (weights,) = registered.rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    (finding,) = champion.check(Inputs(work=str(registered)))
    assert finding.status == "wrong"
    assert "is damaged" in finding.text
    assert "captionmill rollback" in finding.mend


def test_no_champion_is_a_warning(registered: Path) -> None:
    Tracker(registered).set_alias("captioner", "champion", None)
    finding = found(registered)[-1]
    assert (finding.status, "nobody is champion" in finding.text) == ("warning", True)
    (finding,) = champion.check(Inputs(work=str(registered)))
    assert finding.status == "warning"


def test_a_damaged_database_is_wrong(work: Path) -> None:
    (work / "mlflow.db").write_bytes(b"not a database at all" * 100)
    finding = found(work)[-1]
    assert finding.status == "wrong"
    assert "cannot be used" in finding.text


def test_a_lease_that_a_killed_promotion_left(
    registered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Tracker(registered).client.create_registered_model("captioner.lease", description="x")
    assert all("a promotion of" not in each.text for each in found(registered))
    monkeypatch.setattr(registry, "STALE_SECONDS", -1.0)
    finding = found(registered)[-1]
    assert (finding.status, "a promotion of captioner was killed" in finding.text) == (
        "warning",
        True,
    )
