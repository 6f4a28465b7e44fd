"""Prefect servers that cannot be used: each is told in one line, with what to do."""

from __future__ import annotations

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.orchestrator import server
from pipeline.errors import ServerError


class Answers(http.server.BaseHTTPRequestHandler):
    """Whatever `answers` says by path, as a status and a JSON value."""

    answers: dict[str, tuple[int, object]]

    def do_GET(self) -> None:
        status, value = self.answers.get(self.path, (404, "not here"))
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def url() -> Iterator[str]:
    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listener.server_port}/api"
    listener.shutdown()
    listener.server_close()


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        (
            {"/api/health": (401, "Unauthorized"), "/api/admin/version": (401, "Unauthorized")},
            "set PREFECT_API_AUTH_STRING to the user:password",
        ),
        (
            {"/api/health": (200, True), "/api/admin/version": (200, "2.20.1")},
            "is Prefect 2.20.1, and here is 3.*upgrade the server first",
        ),
        (
            {"/api/health": (200, True), "/api/admin/version": (200, "3.0.0")},
            r"or install its version here \(pip install 'prefect==3\.0\.0'\)",
        ),
        ({}, r"is no Prefect server \(HTTP 404\)"),
    ],
)
def test_a_server_that_cannot_be_used_is_told(
    url: str, answers: dict[str, tuple[int, object]], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Answers, "answers", answers, raising=False)
    with (
        temporary_settings({PREFECT_API_URL: url}),
        pytest.raises(ServerError, match=told) as caught,
        server(),
    ):
        pass
    assert url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_server_is_fine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"/api/health": (200, True), "/api/admin/version": (200, "3.99.0")}
    monkeypatch.setattr(Answers, "answers", answers, raising=False)
    with temporary_settings({PREFECT_API_URL: url}), server() as client:
        assert client.api_version() == "3.99.0"


def test_prefects_threads_complain_to_nobody() -> None:
    """Of an event, say, that `captionmill watch` emits while the server is away."""
    program = """
import logging
from flows.orchestrator import quiet_prefect
quiet_prefect()
logging.getLogger("prefect.events.clients").error("Unable to connect")
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
