"""Prefect without a server to look after: settings and a temporary server, before it is imported.

With no PREFECT_API_URL a flow gets a server of its own for as long as the command runs, with
its database and its log below the work directory. The database is a logbook: no stage reads
it. Whatever the user has set stands.
"""

from __future__ import annotations

import atexit
import http.client
import os
import subprocess
import sys
import time
from pathlib import Path

from pipeline.errors import CaptionmillError

START_SECONDS = 120.0

# What a user reads of a run are the stages' own lines: no telemetry, errors once and from us.
QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
}


class TemporaryServer:
    """A Prefect server that ends with this process, or with `stop`."""

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / "server.log"
        with open(self.log, "wb") as log:
            # In a session of its own, so that Ctrl-C reaches the flow and not the server, which
            # the flow still needs to record how it ended.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "flows.server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise self._broken()
        self.port = int(line)

    def wait(self) -> None:
        """Return when the server answers.

        Raises:
            CaptionmillError: it ended, or does not answer in two minutes.
        """
        give_up = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up and self.process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
            try:
                connection.request("GET", "/api/health")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return
            except OSError:
                time.sleep(0.05)
            finally:
                connection.close()
        raise self._broken()

    def stop(self) -> None:
        """End it, and wait until it has."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _broken(self) -> CaptionmillError:
        return CaptionmillError(
            f"Prefect's temporary server does not answer; its log is {self.log}. The single stages "
            "(shard, train, score, promote, caption) work without it"
        )


def configure(work: Path) -> TemporaryServer | None:
    """Settle Prefect's settings and start the server, if one is needed.

    Call it before `prefect` is imported, and `wait` before the first flow. The server is
    stopped at exit, after Prefect's own last messages.
    """
    assert "prefect" not in sys.modules, "prefect reads its settings when it is imported"
    if os.environ.get("PREFECT_API_URL"):
        return None
    for key, value in QUIET.items():
        os.environ.setdefault(key, value)
    home = os.environ.setdefault("PREFECT_HOME", str(work.absolute() / "prefect"))
    server = TemporaryServer(Path(home))
    atexit.register(server.stop)
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{server.port}/api"
    return server
