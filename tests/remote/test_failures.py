"""What goes wrong with a store: one line that says what to do, after a finite number of attempts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading

import pytest

from pipeline.errors import ConfigError, StorageError
from pipeline.remote import RemotePath, s3


@pytest.fixture
def fresh(monkeypatch):
    """Clients that are made from the environment of this test alone, with short pauses."""
    monkeypatch.setattr(s3, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(s3, "_ANSWERED", set())
    s3._store.cache_clear()
    yield
    s3._store.cache_clear()


def test_a_missing_bucket(s3_server, fresh):
    path = RemotePath("no-such-bucket", "x")
    for request in (
        path.read_bytes,
        path.exists,
        path.is_dir,
        lambda: path.write_bytes(b""),
        lambda: list(path.entries()),
    ):
        with pytest.raises(StorageError, match="there is no bucket s3://no-such-bucket; create it"):
            request()


def test_no_credentials(s3_server, monkeypatch, fresh):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="there are no credentials; set AWS_ACCESS_KEY_ID and"):
        RemotePath("bucket", "x").read_bytes()


def test_half_the_credentials(s3_server, monkeypatch, fresh):
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StorageError, match="the credentials are not complete"):
        RemotePath("bucket", "x").read_bytes()


def test_a_public_bucket_needs_no_credentials(bucket, monkeypatch):
    s3.put(bucket.bucket, "x", b"for all", ACL="public-read")
    s3.put(bucket.bucket, "secret", b"for some")
    environment = {n: v for n, v in os.environ.items() if "KEY" not in n} | {
        "FSSPEC_S3_ANON": "true",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    code = f"""
from pipeline.errors import StorageError
from pipeline.remote import location
assert location("{bucket}/x").read_bytes() == b"for all"
try:
    location("{bucket}/secret").read_bytes()
except StorageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert "the store refuses access; the credentials need" in done.stdout, done.stderr


@pytest.mark.parametrize("url", ["not a url", "http://127.0.0.1:notaport"])
def test_an_endpoint_that_is_none(s3_server, monkeypatch, fresh, url):
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL first"):
        RemotePath("bucket", "x").read_bytes()


def test_a_server_that_is_not_there(s3_server, monkeypatch, fresh):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    with pytest.raises(StorageError, match=r"cannot be reached.*\(3 attempts; AWS_MAX_ATTEMPTS"):
        RemotePath("bucket", "x").read_bytes()


def test_a_number_of_attempts_that_is_none(s3_server, monkeypatch, fresh):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "many")
    with pytest.raises(ConfigError, match="AWS_MAX_ATTEMPTS = 'many' must be a whole number"):
        RemotePath("bucket", "x").read_bytes()


def test_the_extra_that_is_not_installed(monkeypatch, fresh):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match=r"pip install 'captionmill\[s3\]'"):
        RemotePath("bucket", "x").read_bytes()


class Answers:
    """A server of canned answers, one a connection; the last one again and again."""

    def __init__(self, *answers: bytes) -> None:
        self.answers, self.asked = list(answers), 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                answer = self.answers[min(self.asked, len(self.answers) - 1)]
                self.asked += 1
                connection.sendall(answer)


def answer(status: int, code: str = "", body: bytes = b"", length: int | None = None) -> bytes:
    text = f"<Error><Code>{code}</Code><Message>secret words</Message></Error>".encode()
    body = text if code else body
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body) if length is None else length}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


@pytest.fixture
def answers(s3_server, monkeypatch, fresh):
    servers = []

    def start(*rows: bytes) -> Answers:
        servers.append(Answers(*rows))
        monkeypatch.setenv("AWS_ENDPOINT_URL", servers[-1].url)
        s3._store.cache_clear()
        return servers[-1]

    yield start
    for server in servers:
        server.socket.close()


def test_what_passes_is_tried_again(answers):
    server = answers(
        answer(503, "SlowDown"),
        answer(500, "InternalError"),
        b"",  # the connection breaks
        answer(200, body=b"half", length=8),  # it breaks in the middle
        answer(200, body=b"all of it"),
    )
    assert RemotePath("bucket", "x").read_bytes() == b"all of it"
    assert server.asked == 5


def test_attempts_come_to_an_end(answers, monkeypatch):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "4")
    server = answers(answer(503, "SlowDown"))
    with pytest.raises(StorageError, match=r"answers SlowDown \(HTTP 503\) \(4 attempts") as raised:
        RemotePath("bucket", "x").read_bytes()
    assert server.asked == 4
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDenied", "refuses access; the credentials need s3:GetObject"),
        ("InvalidAccessKeyId", "does not know the access key"),
        ("SignatureDoesNotMatch", "the secret key is wrong"),
        ("ExpiredToken", "the credentials have expired"),
        ("SomethingNew", r"answers SomethingNew \(HTTP 403\)|refuses access"),
    ],
)
def test_a_refusal_is_not_tried_again(answers, code, words):
    server = answers(answer(403, code))
    with pytest.raises(StorageError, match=words):
        RemotePath("bucket", "x").read_bytes()
    assert server.asked == 1


def test_a_server_that_is_back_soon_is_waited_for(bucket, s3_server, monkeypatch):
    monkeypatch.setattr(s3, "FIRST_PAUSE", 0.05)
    path = bucket / "x"
    path.write_bytes(b"before")
    s3_server.kill()
    found: list[object] = []

    def read() -> None:
        try:
            found.append(path.read_bytes())
        except FileNotFoundError as error:
            found.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    s3_server.start()
    s3._call("create_bucket", bucket.bucket, "")
    reader.join()
    assert isinstance(found[0], FileNotFoundError), "the server forgot it, and answers so"


def test_a_forked_child_makes_its_own_connections(bucket):
    (bucket / "x").write_bytes(b"content")
    code = f"""
import os
from pipeline.remote import RemotePath
path = RemotePath({bucket.bucket!r}, "x")
path.read_bytes()
pid = os.fork()
if pid == 0:
    os._exit(0 if path.read_bytes() == b"content" else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
