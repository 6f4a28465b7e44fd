"""A server that answers what a test says, wrongly if need be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Stranger:
    """An HTTP server on loopback: (method, path) to (status, body), and a clock."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], tuple[int, str]] = {}
        self.logins: list[str | None] = []
        self.asked: list[tuple[str, str]] = []
        self.ahead = 0.0
        stranger = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                stranger.logins.append(self.headers.get("Authorization"))
                stranger.asked.append((self.command, self.path))
                known = stranger.answers
                status, body = known.get(
                    (self.command, self.path), known.get((self.command, "*"), (404, "nothing here"))
                )
                self.send_response(status)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def date_time_string(self, timestamp: float | None = None) -> str:
                import time

                return formatdate(time.time() + stranger.ahead, usegmt=True)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def stranger() -> Iterator[Stranger]:
    made = Stranger()
    yield made
    made.server.shutdown()
    made.server.server_close()
