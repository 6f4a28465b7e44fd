"""The services of docker/compose.yaml as processes of this machine, by the commands written there.

PostgreSQL is the system's and object storage is moto's; all others are started by compose's own
command, through the image's entry point, with compose's environment. What names a container's
address, port or path is replaced by one of this machine.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
from compose_file import ROOT, Service, services
from postgres_cluster import HOST, PostgresCluster

BIN = Path(sys.executable).parent
START_SECONDS = 180.0
PORTS = {"postgres": 5432, "storage": 8333, "prefect": 4200, "mlflow": 5000}
HEALTH_PORTS = ("8080", "8081", "8082")
MORE = {"watch": ("--every", "1", "--delay", "1")}
"""What is added to compose's commands, so that a test need not wait long."""


class Stack:
    """Services by their names in compose.yaml; `up` starts those given and what they need."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.work, self.logs = place / "work", place / "logs"
        # The work directory is there in the image, too.
        for folder in (
            self.work / "captionmill-work",
            self.logs,
            place / "secrets",
            place / "weights",
        ):
            folder.mkdir(parents=True)
        (self.work / "configs").symlink_to(ROOT / "configs")
        self.secrets = {name: secrets.token_hex(8) for name in ("storage_key", "storage_secret")}
        self.secrets |= {
            "postgres_password": secrets.token_hex(8),
            "prefect_auth": f"captionmill:{secrets.token_hex(8)}",
            "webhook_url": "",
        }
        for name, value in self.secrets.items():
            if value:  # compose makes no file of an empty secret
                (place / "secrets" / name).write_text(value, encoding="utf-8")
        self.services: dict[str, Service] = services()
        self.ports = {name: free_port() for name in PORTS}
        self.health_ports = {port: str(free_port()) for port in HEALTH_PORTS}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.postgres: PostgresCluster | None = None

    # ---- addresses

    def here(self, text: str) -> str:
        """`text` of compose.yaml as it is on this machine."""
        for name, port in PORTS.items():
            for host in (name, HOST, "localhost"):
                text = text.replace(f"{host}:{port}", f"{HOST}:{self.ports[name]}")
            if text in (str(port), f"--port={port}"):
                text = text.replace(str(port), str(self.ports[name]))
        for port, ours in self.health_ports.items():
            text = ours if text == port else text.replace(f"{HOST}:{port}", f"{HOST}:{ours}")
        for there, path in {
            "/run/secrets": self.place / "secrets",
            "/opt/captionmill/docker": ROOT / "docker",
            "/weights": self.place / "weights",
            "/srv/captionmill": self.work,
        }.items():
            if text == there or text.startswith(f"{there}/"):
                text = f"{path}{text.removeprefix(there)}"
        return text.replace("0.0.0.0", HOST)

    @property
    def prefect_url(self) -> str:
        """Prefect's API."""
        return f"http://{HOST}:{self.ports['prefect']}/api"

    @property
    def mlflow_url(self) -> str:
        """MLflow's server."""
        return f"http://{HOST}:{self.ports['mlflow']}"

    @property
    def storage_url(self) -> str:
        """The S3 endpoint."""
        return f"http://{HOST}:{self.ports['storage']}"

    def environment(self, name: str) -> dict[str, str]:
        """Of a service: nothing of this shell's that a container would not have."""
        kept = {
            k: os.environ[k]
            for k in ("HOME", "LANG", "TMPDIR", "LD_LIBRARY_PATH")
            if k in os.environ
        }
        home = self.place / "prefect-home" / name  # a container has one of its own
        home.mkdir(parents=True, exist_ok=True)
        ours = {key: self.here(value) for key, value in self.services[name].environment.items()}
        return {
            **kept,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(home),
            "OMP_NUM_THREADS": "1",
            "AWS_EC2_METADATA_DISABLED": "true",
            **ours,
        }

    def client(self) -> dict[str, str]:
        """The environment of a command that talks to the servers, with the secrets in it."""
        found = self.environment("worker-cpu")
        for key in [key for key in found if key.endswith("_FILE")]:
            found[key.removesuffix("_FILE")] = Path(found.pop(key)).read_text(encoding="utf-8")
        return found

    # ---- up and down

    def up(self, *names: str) -> None:
        """Start services and what they need, each when what it needs is well."""
        wanted = self._with_needs(names)
        while wanted:
            ready = [n for n in wanted if not set(self.services[n].needs) & set(wanted)]
            self.start(*ready)
            wanted = [name for name in wanted if name not in ready]

    def _with_needs(self, names: tuple[str, ...] | list[str]) -> list[str]:
        found: list[str] = []
        for name in names:
            for one in [*self._with_needs([*self.services[name].needs]), name]:
                if one not in found:
                    found.append(one)
        return found

    def start(self, *names: str) -> None:
        """Start services side by side; returns when each is well, or done, if it is one that ends."""
        for name in names:
            if name == "postgres":
                self._start_postgres()
            elif name == "storage":
                self._start_storage()
            else:
                entry = ["/bin/sh", str(ROOT / "docker" / "with_secrets.sh")]
                words = map(self.here, self.services[name].command)
                command = [*entry, *words, *MORE.get(name, ())]
                self.processes[name] = self._spawn(name, command)
        for name in names:
            if name not in ("postgres", "storage"):
                self._settle(name)

    def _start_postgres(self) -> None:
        if self.postgres is not None:
            self.postgres.start()
            return
        given = self.services["postgres"].environment
        password, port = self.secrets["postgres_password"], self.ports["postgres"]
        self.postgres = PostgresCluster(given["POSTGRES_USER"], password, port)
        self.postgres.sql(f"CREATE DATABASE {given['POSTGRES_DB']}")
        self.postgres.file(ROOT / "docker" / "databases.sql")

    def _start_storage(self) -> None:
        command = [str(BIN / "moto_server"), "--host", HOST, "--port", str(self.ports["storage"])]
        self.processes["storage"] = self._spawn("storage", command)
        wait_for(lambda: answers(self.storage_url), "storage", self.log("storage"))
        import boto3

        client = boto3.client(
            "s3",
            endpoint_url=self.storage_url,
            region_name="us-east-1",
            aws_access_key_id=self.secrets["storage_key"],
            aws_secret_access_key=self.secrets["storage_secret"],
        )
        for bucket in self.services["storage"].environment["S3_BUCKET"].split(","):
            client.create_bucket(Bucket=bucket)

    def _settle(self, name: str) -> None:
        process = self.processes[name]
        ends = any(
            other.needs.get(name) == "service_completed_successfully"
            for other in self.services.values()
        )
        if ends:
            del self.processes[name]
            assert process.wait(timeout=START_SECONDS) == 0, self.tail(name)
        elif "HEALTH_URL" in self.services[name].environment:
            wait_for(lambda: self.healthy(name), name, self.log(name), process)

    def _spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with open(self.log(name), "ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.work,
                env=self.environment(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def healthy(self, name: str) -> bool:
        """What the container's health check says."""
        check = [sys.executable, str(ROOT / "docker" / "healthy.py")]
        done = subprocess.run(check, env=self.environment(name), capture_output=True, check=False)
        return done.returncode == 0

    def kill(self, name: str) -> None:
        """SIGKILL to a service and all that it started, as when its container or machine dies."""
        process = self.processes.pop(name)
        for pid in [*descendants(process.pid), process.pid]:
            end(pid, signal.SIGKILL)
        process.wait()

    def stop(self, name: str) -> None:
        """SIGTERM, as `docker compose stop` sends it."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.processes[name] = process
            self.kill(name)

    def down(self) -> None:
        """End everything."""
        for name in list(self.processes):
            self.kill(name)
        if self.postgres is not None:
            self.postgres.remove()

    # ---- what they said

    def log(self, name: str) -> Path:
        """The file of a service's output."""
        return self.logs / f"{name}.log"

    def tail(self, name: str, lines: int = 60) -> str:
        """The last lines of a service's output."""
        text = self.log(name).read_text(encoding="utf-8", errors="replace")
        return "\n".join([f"--- {name}", *text.splitlines()[-lines:]])


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Whether anything answers at `url`."""
    try:
        httpx.get(url, timeout=2)
    except httpx.HTTPError:
        return False
    return True


def wait_for(
    condition: object,
    what: str,
    log: Path,
    process: subprocess.Popen[bytes] | None = None,
    seconds: float = START_SECONDS,
) -> None:
    """Return when `condition` holds; fail with the log's end when it does not."""
    assert callable(condition)
    give_up = time.monotonic() + seconds
    while not condition():
        ended = process is not None and process.poll() is not None
        if ended or time.monotonic() > give_up:
            text = log.read_text(encoding="utf-8", errors="replace")[-6000:]
            raise AssertionError(f"{what} {'ended' if ended else 'is not well'}:\n{text}")
        time.sleep(0.5)


def descendants(pid: int) -> Iterator[int]:
    """Everything that a process started and what that started, youngest first."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(errors="replace").rpartition(")")[2].split()
        except OSError:
            continue  # ended since
        children.setdefault(int(fields[1]), []).append(int(stat.parts[2]))
    found, front = [], [pid]
    while front:
        front = [child for parent in front for child in children.get(parent, [])]
        found += front
    return reversed(found)


def end(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
