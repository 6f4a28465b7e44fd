"""A Prefect server of this machine, a worker's process tree, and what listens for notifications."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PATIENCE = 600.0


def until(happens: Callable[[], Any], what: str) -> Any:
    """What `happens` returns when it is true at last."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        if found := happens():
            return found
        time.sleep(0.2)
    raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Site:
    """A directory with a server; `stop` ends everything that was started in it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port = directory, free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}",
            "PREFECT_HOME": str(directory / "prefect"),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "DO_NOT_TRACK": "1",
        }
        port = str(self.port)
        self.server = self.start(
            "prefect", "server", "start", "--host", "127.0.0.1", "--port", port
        )
        until(self._answers, "a server that answers")

    def _answers(self) -> bool:
        assert self.server.poll() is None, (self.directory / "prefect.log").read_text()
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.HTTPError:
            return False

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A process in a group of its own, so that it can be killed with its children."""
        with open(self.directory / f"{command[0]}.log", "ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.directory,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def captionmill(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        script = "import sys; from flows.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", script, *words],
            cwd=self.directory,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
        )

    def stop(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                kill_tree(process.pid)
                process.wait()


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all below it, as a machine that loses power would."""
    for child in children(pid):
        kill_tree(child)
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def children(pid: int) -> list[int]:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [int(child) for child in found.split()]


class Receiver:
    """An HTTP server that keeps what is posted to it."""

    def __init__(self) -> None:
        received: list[dict[str, Any]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                received.append({"path": self.path, **json.loads(body)})
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.received = received
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook/secret-path"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def of(self, kind: str, name: str) -> list[dict[str, Any]]:
        return [each for each in self.received if (each["kind"], each["name"]) == (kind, name)]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
