"""A registry on a real MLflow server that keeps the files too, and that goes away."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from small_registry import decided, make_shards, settings, write_pictures

from flows import cli
from pipeline.doctor import Inputs, champion
from pipeline.gc import collect
from pipeline.promote import approve, judging
from pipeline.promote.listing import show_version
from pipeline.records import ShardSet
from pipeline.tracking import Tracker

pytestmark = pytest.mark.slow


class Server:
    """`mlflow server` on loopback; what it stores is out of the clients' sight."""

    def __init__(self, place: Path, database: Path) -> None:
        shutil.copy(database, place / "server.db")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{place / 'server.db'}"]
        files = ["--artifacts-destination", str(place / "files")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *where, *store, *files],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        while not self._answers():
            assert self.process.poll() is None

    def _answers(self) -> bool:
        try:
            return bool(urllib.request.urlopen(f"{self.url}/health", timeout=5).status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"), fresh_database)
    yield server
    server.kill()


@pytest.fixture
def server(started: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", started.url)
    monkeypatch.setattr(judging, "measure", judging.measure)  # put back after the test
    return started


@pytest.fixture
def shard_set(tmp_path: Path) -> ShardSet:
    (tmp_path / "pictures").mkdir()
    write_pictures(tmp_path / "pictures", images=12)
    return make_shards(tmp_path / "pictures", tmp_path / "work")


def test_decisions_are_read_and_kept_though_the_files_lie_on_the_server(
    server: Server, tmp_path: Path, shard_set: ShardSet
) -> None:
    work = tmp_path / "work"
    decided(work, shard_set, "a" * 16, 0.2)
    decided(work, shard_set, "b" * 16, 1.0, settings(require_approval=True))
    shown = show_version(work, "captioner", version=2)
    assert shown.shard_set is not None and shown.shard_set["manifest"] == shard_set.manifest
    assert approve(work, "captioner", alias="challenger", by="ann").promoted
    assert "Approved by ann" in show_version(work, "captioner", version=2).card
    # Somebody else's model in the same registry, and a version that was never decided about.
    tracker = Tracker(work)
    with tracker.run("theirs", "x", "x") as run:
        place = tracker.client.get_run(run.run_id).info.artifact_uri
    tracker.client.create_registered_model("theirs")
    tracker.client.create_model_version("theirs", f"{place}/model", run.run_id)
    tracker.client.set_registered_model_alias("theirs", "champion", "1")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "captioner.json").write_text("{}")
    bare = tracker.register("captioner", tmp_path / "new", None)
    assert not bare.evidence.exists()
    kinds = {item.kind for item in collect(work, keep_days=0).items}
    assert kinds.isdisjoint({"train", "promote", "shard", "shard part", "shard set"})


def test_the_doctor_looks_at_the_copy_that_runs_use(
    server: Server, tmp_path: Path, save_captioner: Any
) -> None:
    work, tracker = tmp_path / "work", Tracker(tmp_path / "work")
    directory = save_captioner(tmp_path / "captioner", ["a red square", "a blue circle"])
    version = tracker.register("copied", directory, None)
    asked = Inputs(work=str(work), overrides=[f"caption.model={version.ref}"])
    assert [each.status for each in champion.check(asked)] == ["ok"]
    assert not work.exists(), "nothing is left behind"

    (weights,) = version.directory.glob("model.safetensors")  # fetched, as a run does
    assert weights.is_relative_to(work)
    assert [each.status for each in champion.check(asked)] == ["ok"]
    weights.write_bytes(weights.read_bytes()[:-1])
    there, copy = champion.check(asked)
    assert (there.status, copy.status) == ("ok", "wrong")
    assert copy.mend.startswith(f"delete {work / 'models' / 'copied' / '1'}: ")


def test_a_server_that_goes_away_amid_the_work_is_a_line_and_the_same_command_goes_on(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Tracker.aliases

    def dies(tracker: Tracker, name: str) -> dict[str, int]:
        assert tracker.client is not None  # it was there at first
        server.kill()
        return original(tracker, name)

    monkeypatch.setattr(Tracker, "aliases", dies)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    result = CliRunner().invoke(cli.main, ["models", "--work", str(tmp_path)])
    assert result.exit_code == 2
    assert " does not answer: " in result.stderr
    assert result.stderr.endswith("when it does, run the same command again to go on\n")
    assert len(result.stderr.splitlines()) == 1
