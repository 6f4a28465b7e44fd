from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.doctor import Finding, Inputs, credentials


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [*credentials.ADDRESSES, *os.environ]:
        if name in credentials.ADDRESSES or name.endswith("_FILE"):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found() -> list[Finding]:
    return list(credentials.check(Inputs(work="/w")))


def write(path: Path, mode: int, text: str = "secret") -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(("mode", "status"), [(0o600, "ok"), (0o640, "warning"), (0o644, "wrong")])
def test_files_that_others_may_read(home: Path, mode: int, status: str) -> None:
    path = write(home / ".aws" / "credentials", mode)
    (finding,) = found()
    assert finding.status == status
    assert str(path) in finding.text
    assert finding.mend == ("" if status == "ok" else f"chmod 600 {path}")


def test_files_that_the_environment_names(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(home / "password", 0o644)
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(path))
    monkeypatch.setenv("SOME_LOG_FILE", str(write(home / "log", 0o644)))
    (finding,) = found()
    assert (finding.status, str(path) in finding.text) == ("wrong", True)


def test_profiles_of_prefect_count_once_they_hold_a_secret(home: Path) -> None:
    profiles = home / ".prefect" / "profiles.toml"
    write(profiles, 0o644, 'PREFECT_API_URL = "http://127.0.0.1:4200/api"')
    assert [each.status for each in found()] == ["ok"]
    write(profiles, 0o644, 'PREFECT_API_AUTH_STRING = "ann:hunter2"')
    assert [each.status for each in found()] == ["wrong"]


def test_a_password_in_an_address_is_a_warning_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:hunter2@127.0.0.1:5000")
    _, finding = found()
    assert finding.status == "warning"
    assert "MLFLOW_TRACKING_USERNAME" in finding.mend
    assert "hunter2" not in finding.text + finding.mend


@pytest.mark.parametrize(
    ("url", "count"),
    [
        ("http://93.184.216.34:4200/api", 1),
        ("https://93.184.216.34:4200/api", 0),
        ("http://127.0.0.1:4200/api", 0),
        ("http://10.1.2.3:4200/api", 0),
    ],
)
def test_a_password_in_the_clear_to_a_public_address(
    monkeypatch: pytest.MonkeyPatch, url: str, count: int
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", url)
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ann:hunter2")
    warned = [each for each in found() if each.status == "warning"]
    assert len(warned) == count
    assert all("in the clear" in each.text and "hunter2" not in each.text for each in warned)
