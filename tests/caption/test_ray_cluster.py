"""On a real Ray cluster of two nodes the rows are those of this machine, whoever dies."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import Loader, caption, ray_cluster, verify, wire
from pipeline.config import CaptionConfig
from pipeline.errors import ConfigError, WorkerError

pytestmark = pytest.mark.slow

Parts = Callable[[Path], dict[str, bytes]]
Light = Callable[..., Loader]

HERE = Path(__file__).parent


class Nodes:
    """The cluster of `ray_nodes.py`."""

    def __init__(self) -> None:
        paths = [str(HERE / "light"), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
            # Whatever else runs on this machine is not to end the actors.
            "RAY_memory_monitor_refresh_ms": "0",
        }
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "ray_nodes.py")],
            env={**os.environ, **self.environment, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._answer()

    def tell(self, word: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(("127.", "done")):
                return line.strip()
        raise AssertionError("the cluster did not start")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    found = Nodes()
    yield found
    found.end()


@pytest.fixture
def on_nodes(
    nodes: Nodes, light: Light, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., CaptionConfig]:
    """Settings that caption on the cluster."""
    for name, value in nodes.environment.items():
        monkeypatch.setenv(name, value)

    def settings(**more: Any) -> CaptionConfig:
        where = {"engine": "ray", "ray_address": nodes.address}
        return CaptionConfig(**{"unit_size": 5, "batch_size": 3, **where, **more})

    return settings


LOCAL = CaptionConfig(unit_size=5, batch_size=3, workers=1)


@pytest.fixture
def photos(folder: Path, picture: Callable[..., bytes]) -> Path:
    """Forty-one pictures: copies in other units, one without bytes, one with an odd name."""
    for number in range(29):
        (folder / f"more-{number % 7}-{number:02d}.png").write_bytes(picture(number % 13, "PNG"))
    (folder / "bad.jpg").write_bytes(b"")
    (folder / os.fsdecode(b"caf\xe9.jpg")).write_bytes(picture(70))
    return folder


@pytest.fixture
def ends(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How each worker that was lost ended."""
    found: list[str] = []
    autopsy = ray_cluster.Remote.autopsy

    def noted(self: ray_cluster.Remote) -> tuple[str, bool]:
        how, crashed = autopsy(self)
        found.append(how)
        return how, crashed

    monkeypatch.setattr(ray_cluster.Remote, "autopsy", noted)
    return found


def actors() -> list[int]:
    """The processes of the actors on this machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::CaptionWorker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def drivers() -> list[int]:
    """The processes that drive Ray for a run in this one."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"pipeline.caption.ray_driver" in command:
            found.append(int(path.parent.name))
    return found


def wait_for(what: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def meanwhile(table: Path, what: Callable[[], object]) -> threading.Thread:
    """Do something once the first unit of a table is done."""

    def act() -> None:
        wait_for(lambda: list(table.glob("*.parquet")))
        what()

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def test_rows_are_those_of_this_machine(
    photos: Path, tmp_path: Path, light: Light, on_nodes: Callable[..., CaptionConfig],
    parts: Parts, make_zip: Callable[..., Path], picture: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    make_zip(tmp_path / "a.zip", [("x.jpg", picture(71)), ("y.jpg", picture(3))])
    # Paths of here, which an actor's process would look for elsewhere.
    monkeypatch.chdir(tmp_path)
    archives = [Path("photos"), Path("a.zip")]
    caption(LOCAL, archives, tmp_path / "local", light())
    (tmp_path / "met").mkdir()
    capfd.readouterr()
    # Two actors, or it never captions anything.
    loader = light("that_meets_others", path=str(tmp_path / "met"), workers=2)
    report = caption(on_nodes(), archives, tmp_path / "ray", loader)
    assert (report.engine, report.captioned, report.failed) == ("ray", 42, {"zero_bytes": 1})
    assert parts(tmp_path / "ray") == parts(tmp_path / "local")
    out, err = capfd.readouterr()
    assert not out
    assert all(line.startswith("caption ") for line in err.splitlines()), err
    wait_for(lambda: not actors())


def test_an_actor_that_is_killed_costs_no_row(
    photos: Path, tmp_path: Path, light: Light, on_nodes: Callable[..., CaptionConfig],
    parts: Parts, ends: list[str],
) -> None:  # fmt: skip
    caption(LOCAL, [photos], tmp_path / "local", light())
    (tmp_path / "met").mkdir()
    met = {"path": str(tmp_path / "met"), "workers": 2}
    table, loader = tmp_path / "ray", light("that_meets_others", **met, seconds=0.3)
    killing = meanwhile(table, lambda: os.kill(actors()[0], signal.SIGKILL))
    report = caption(on_nodes(workers=2), [photos], table, loader)
    killing.join()
    assert report.captioned == 40
    assert parts(table) == parts(tmp_path / "local")
    assert [end.partition(" (")[0] for end in ends] == ["was lost, or its node was"]
    assert not list((table / "_attempts").iterdir())


def test_a_picture_that_its_decoder_dies_of_is_a_row(
    photos: Path, tmp_path: Path, light: Light, on_nodes: Callable[..., CaptionConfig],
    picture: Any, ends: list[str],
) -> None:  # fmt: skip
    (photos / "04a.jpg").write_bytes(picture(50) + b"DEADLY")
    loader = light("with_deadly_decoder", mark="DEADLY", by=[signal.SIGSEGV])
    report = caption(on_nodes(workers=2), [photos], tmp_path / "t", loader)
    assert (report.captioned, report.failed) == (40, {"decoder_crash": 1, "zero_bytes": 1})
    assert {end.partition(" (")[0] for end in ends} == {"was ended by SIGSEGV"}
    assert verify(tmp_path / "t").failed == {"decoder_crash": 1, "zero_bytes": 1}


def test_a_node_that_is_lost_costs_no_row(
    nodes: Nodes, photos: Path, tmp_path: Path, light: Light, parts: Parts, ends: list[str],
    on_nodes: Callable[..., CaptionConfig],
) -> None:  # fmt: skip
    caption(LOCAL, [photos], tmp_path / "local", light())
    (tmp_path / "met").mkdir()
    met = {"path": str(tmp_path / "met"), "workers": 2}
    table, loader = tmp_path / "ray", light("that_meets_others", **met, seconds=0.3)
    losing = meanwhile(table, lambda: nodes.tell("remove"))
    try:
        # The one that is started for the lost worker never gets a place.
        report = caption(on_nodes(workers=2), [photos], table, loader)
    finally:
        losing.join()
        nodes.tell("add")
    assert report.captioned == 40
    assert parts(table) == parts(tmp_path / "local")
    # The other one may have waited for what the lost one had, and was started anew for that.
    assert {end.partition(" (")[0] for end in ends} - {"was ended"} == {"was lost, or its node was"}


def test_a_run_that_loses_its_driver_ends_and_the_other_engine_finishes(
    photos: Path, tmp_path: Path, light: Light, on_nodes: Callable[..., CaptionConfig], parts: Parts
) -> None:
    caption(LOCAL, [photos], tmp_path / "local", light())
    table = tmp_path / "t"
    killing = meanwhile(table, lambda: [os.kill(pid, signal.SIGKILL) for pid in drivers()])
    with pytest.raises(
        WorkerError, match=r"lost: its driver was killed \(SIGKILL\)\. Run the same"
    ):
        caption(on_nodes(workers=2), [photos], table, light(seconds=0.3))
    killing.join()
    wait_for(lambda: not actors())
    assert caption(LOCAL, [photos], table, light()).captioned == 40
    assert parts(table) == parts(tmp_path / "local")


def test_a_cluster_without_room_or_that_is_not_there_is_an_error(
    photos: Path, tmp_path: Path, light: Light, on_nodes: Callable[..., CaptionConfig]
) -> None:
    large = Loader(function="light_captioner:captioner", arguments={"threads": 2})
    with pytest.raises(
        ConfigError, match=r"no node .* 2 CPU; the nodes have 1 CPU; 1 CPU\. Set `threads`"
    ):
        caption(on_nodes(), [photos], tmp_path / "t", large)
    assert not (tmp_path / "t").exists()
    with pytest.raises(ConfigError, match=r"'127\.0\.0\.1:9'.*Connection refused"):
        caption(on_nodes(ray_address="127.0.0.1:9"), [photos], tmp_path / "t", light())
    assert not (tmp_path / "t").exists()


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(HERE / "light" / "caption_light.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.usefixtures("light")
def test_a_run_that_is_killed_leaves_no_ray_behind_and_a_rerun_finishes(
    photos: Path, tmp_path: Path, light: Light, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "s"
    scratch.mkdir()
    monkeypatch.setenv("CAPTIONMILL_TEST", str(scratch))  # all that the run starts inherits it
    caption(LOCAL, [photos], tmp_path / "local", light())
    slow = json.dumps({"seconds": 0.3})
    run = started(photos, tmp_path / "t", "captioner", slow, 2, "ray")
    wait_for(lambda: list((tmp_path / "t").glob("*.parquet")) or run.poll() is not None)
    assert run.poll() is None, run.communicate()
    assert len(of_run(scratch)) > 5
    run.kill()
    run.communicate()
    wait_for(lambda: not of_run(scratch))
    rerun = started(photos, tmp_path / "t", "captioner", "{}", 2, "ray")
    out, err = rerun.communicate(timeout=600)
    assert (rerun.returncode, out) == (0, "")
    assert all(line.startswith("caption ") for line in err.splitlines()), err
    assert parts(tmp_path / "t") == parts(tmp_path / "local")
    wait_for(lambda: not of_run(scratch))


def of_run(scratch: Path) -> list[int]:
    """Processes, not dead, that have the run's environment."""
    found, mark = [], f"CAPTIONMILL_TEST={scratch}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            state = (path.parent / "stat").read_text().rpartition(")")[2].split()[0]
            if int(path.parent.name) != os.getpid() and mark in path.read_bytes() and state != "Z":
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def driven(**changed: object) -> subprocess.Popen[bytes]:
    """A driver, with other limits."""
    code = "".join(f"ray_driver.{name} = {value!r}; " for name, value in changed.items())
    return subprocess.Popen(
        [sys.executable, "-c", f"from pipeline.caption import ray_driver; {code}ray_driver.main()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def asked_to_join(driver: subprocess.Popen[bytes], address: str | None) -> None:
    assert driver.stdin is not None
    head = {"address": address, "cores": 1, "device": None, "cpus": 1, "gpus": 1.0}
    wire.send(driver.stdin, "connect", head)


def test_an_address_where_something_else_listens_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        driver = driven(ANSWER=1.0)
        asked_to_join(driver, address)
        assert driver.stdout is not None
        frame = wire.receive(driver.stdout)
        assert frame is not None
        error = wire.error_from_json(frame.head)
        assert isinstance(error, ConfigError)
        assert f"{address!r} (caption.ray_address): nothing that is a Ray cluster" in str(error)
        driver.communicate()


def test_a_driver_that_is_left_while_its_cluster_starts_leaves_nothing() -> None:
    driver = driven()
    asked_to_join(driver, None)

    def files() -> Path | None:
        found = Path(f"/proc/{driver.pid}/cwd").readlink()
        return found if list(found.glob("session_*/logs")) else None

    directory = wait_for(files)
    driver.communicate()
    assert not directory.exists()
    assert not of_session(driver.pid)


def of_session(leader: int) -> list[int]:
    """Processes, not dead, of the session that a process began."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != "Z":
            found.append(int(path.parent.name))
    return found
