"""A PostgreSQL cluster of the system's packages, on loopback, in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

HOST = "127.0.0.1"
INSTALL = "PostgreSQL's server is not installed: `make test-stack` as root installs it"


def binaries() -> Path | None:
    """The folder of the newest installed version's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).parent if initdb else None


class PostgresCluster:
    """One cluster with one superuser; started by the constructor."""

    def __init__(self, user: str, password: str, port: int) -> None:
        place = binaries()
        assert place is not None, INSTALL
        self.bin, self.user, self.password, self.port = place, user, password, port
        self.place = Path(tempfile.mkdtemp(prefix="captionmill-postgres-"))
        self.data, self.log = self.place / "data", self.place / "log"
        secret = self.place / "password"
        secret.write_text(password, encoding="utf-8")
        if os.geteuid() == 0:  # PostgreSQL refuses root
            owner = pwd.getpwnam("postgres")
            for path in (self.place, secret):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        self._run(
            "initdb", f"--pgdata={self.data}", f"--username={user}", f"--pwfile={secret}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync",
        )  # fmt: skip
        self.start()

    def _as_owner(self, *command: str) -> list[str]:
        return ["runuser", "-u", "postgres", "--", *command] if os.geteuid() == 0 else [*command]

    def _run(self, program: str, *arguments: str) -> None:
        command = self._as_owner(str(self.bin / program), *arguments)
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program}: {done.stderr}"

    def start(self) -> None:
        """Start, and return when it answers."""
        self._run(
            "pg_ctl", "start", "--wait", f"--pgdata={self.data}", f"--log={self.log}",
            f"--options=-c port={self.port} -c listen_addresses={HOST} -c fsync=off "
            "-c unix_socket_directories=''",
        )  # fmt: skip

    def stop(self) -> None:
        """Stop at once, with every connection, as a crash would."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate", f"--pgdata={self.data}")

    def sql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement; the rows, a line each."""
        return self._psql(database, "--command", statement)

    def file(self, path: Path) -> None:
        """Run a file of statements."""
        self._psql("postgres", "--file", str(path))

    def _psql(self, database: str, *arguments: str) -> str:
        done = subprocess.run(
            [
                str(self.bin / "psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
                "--set=ON_ERROR_STOP=1", f"--host={HOST}", f"--port={self.port}",
                f"--username={self.user}", f"--dbname={database}", *arguments,
            ],
            env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def remove(self) -> None:
        """End it and delete its folder."""
        pid = self.data / "postmaster.pid"
        if pid.exists():
            number = int(pid.read_text().splitlines()[0])
            os.kill(number, signal.SIGQUIT)
            give_up = time.monotonic() + 20
            while pid.exists() and time.monotonic() < give_up:
                time.sleep(0.05)
        shutil.rmtree(self.place, ignore_errors=True)
