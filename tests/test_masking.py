from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.caption.worker import Worker
from pipeline.errors import CaptionmillError, ConfigError
from pipeline.masking import masked
from pipeline.progress import say
from pipeline.remote import RemotePath, location


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://ann:hunter2@mlflow:5000/api", "http://ann:***@mlflow:5000/api"),
        ("postgresql+psycopg2://u:hunter2@db/mlflow", "postgresql+psycopg2://u:***@db/mlflow"),
        ("at http://:hunter2@h, then", "at http://:***@h, then"),
        ("https://u:hun@ter2@host/x", "https://u:***@host/x"),
        ("https://u:hun:ter2@host", "https://u:***@host"),
        ("https://hunter2@host/x", "https://***@host/x"),
        ("'https://u:hunter2@a' and https://u:hunter2@b", "'https://u:***@a' and https://u:***@b"),
        (
            "GET https://b/k?X-Amz-Signature=hunter2&x=1&token=hunter2",
            "GET https://b/k?X-Amz-Signature=***&x=1&token=***",
        ),
        ("https://h/p?api_key=hunter2 failed", "https://h/p?api_key=*** failed"),
    ],
)
def test_passwords_of_urls_are_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a:b@c/picture.jpg",
        "http://127.0.0.1:5000/api",
        "mail ann@example.org about captioner@champion",
        "sqlite:////data/mlflow.db",
        "token = 3 is not allowed",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text


def test_errors_and_notes_carry_no_password(capsys: pytest.CaptureFixture[str]) -> None:
    assert "hunter2" not in str(CaptionmillError("http://u:hunter2@h is away"))
    say("train", "http://u:hunter2@h is away")
    printed = capsys.readouterr().err
    assert "http://u:***@h is away" in printed


def test_credentials_in_an_s3_url_are_refused_unseen() -> None:
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID") as refused:
        location("s3://key:hunter2@bucket/x")
    assert "hunter2" not in str(refused.value)
    assert location("s3://bucket/a@b") == RemotePath("bucket", "a@b")


def test_a_captioning_process_tells_of_a_bug_without_passwords() -> None:
    worker, said = object.__new__(Worker), []
    worker._send = lambda kind, head: said.append((kind, head))  # type: ignore[method-assign]
    worker.fail(RuntimeError("no route to http://ann:hunter2@host"))
    ((kind, head),) = said
    assert kind == "error"
    assert "http://ann:***@host" in head["text"]
    assert "hunter2" not in head["text"]


def command(tmp_path: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *arguments],
        env={**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_tracking_server_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    ended = command(tmp_path, "models", MLFLOW_TRACKING_URI="http://ann:hunter2@127.0.0.1:9")
    assert ended.returncode == 2
    assert "hunter2" not in ended.stdout + ended.stderr
    assert "ann:***@127.0.0.1:9" in ended.stderr
    assert all("hunter2" not in path.read_text() for path in tmp_path.rglob("*") if path.is_file())


def test_the_traceback_of_a_bug_is_without_passwords(tmp_path: Path) -> None:
    program = (
        "from flows import cli, models\n"
        "def broken(*_): raise RuntimeError('no route to http://ann:hunter2@host')\n"
        "models.list_versions = broken\n"
        "cli.main(['models'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 1
    assert "RuntimeError: no route to http://ann:***@host" in ended.stderr
