"""The Ray engine without a cluster: what is refused, and what an actor and its connection say."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import Loader, caption, wire
from pipeline.caption.engine import engine
from pipeline.caption.members import Member
from pipeline.caption.plan import Unit
from pipeline.caption.ray_actor import CaptionWorker
from pipeline.caption.ray_cluster import Remote
from pipeline.caption.ray_engine import address_of
from pipeline.caption.ray_paths import absolute, landmark
from pipeline.caption.tasks import Task
from pipeline.caption.versions import versions
from pipeline.config import CaptionConfig
from pipeline.errors import ArchiveError, ConfigError, ModelError

Light = Callable[..., Loader]

RAY = CaptionConfig(unit_size=5, batch_size=3, engine="ray")


def test_without_ray_it_says_how_to_install_it(
    folder: Path, tmp_path: Path, light: Light, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "ray" else find(name, *a)
    )
    with pytest.raises(ConfigError, match=r"pip install 'captionmill\[ray\]'"):
        caption(RAY, [folder], tmp_path / "t", light())
    assert not (tmp_path / "t").exists()


def test_what_ray_cannot_do_is_refused(
    folder: Path, tmp_path: Path, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="give a Loader"):
        caption(RAY, [folder], tmp_path / "t", stub())
    one_gpu = Loader(function="light_captioner:captioner", arguments={"device": "cuda:1"})
    with pytest.raises(ConfigError, match="device = cuda:1 names one GPU"):
        engine(RAY, one_gpu)
    with pytest.raises(ConfigError, match="Ray Client, which is not supported"):
        address_of(CaptionConfig(engine="ray", ray_address="ray://head:10001"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert address_of(RAY) is None
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert address_of(RAY) == "head:6379"
    assert address_of(CaptionConfig(engine="ray", ray_address="local")) is None


def test_who_captions_is_no_part_of_what_a_table_holds() -> None:
    changed = CaptionConfig(engine="ray", ray_address="head:6379", ray_gpus=0.5, workers=50)
    assert changed.content() == CaptionConfig().content()


def task_of(folder: Path, *names: str) -> dict[str, Any]:
    members = [Member(name, size=(folder / name).stat().st_size) for name in names]
    return wire.task_to_json(Task(Unit("u1", "photos", members)))


def asked_to_caption(worker: CaptionWorker, folder: Path, mark: tuple[str, int] | None) -> None:
    head = {"archive": str(folder), "task": task_of(folder, "00.jpg"), "landmark": mark}
    worker.send(wire.to_bytes("caption", head))


def frame_after(frames: Any, *kinds: str) -> wire.Frame:
    for kind in kinds:
        frame = wire.from_bytes(next(frames))
        assert frame.kind == kind
    return wire.from_bytes(next(frames))


def begun(light: Light, function: str = "captioner", **arguments: Any) -> Any:
    worker = CaptionWorker(
        wire.to_bytes("start", wire.start_to_json(RAY, light(function, **arguments), 0)), 1
    )
    return worker, worker.frames()


def test_an_actor_says_where_it_is_and_passes_on_what_is_said(folder: Path, light: Light) -> None:
    worker, frames = begun(light)
    at = wire.from_bytes(next(frames))
    assert (at.kind, at.head["versions"]) == ("at", versions())
    assert wire.from_bytes(next(frames)).kind == "ready"
    asked_to_caption(worker, folder, landmark(str(folder), task_of(folder, "00.jpg")))
    found = wire.from_bytes(next(frames))
    assert (found.kind, found.head["unit"]) == ("find", "u1")
    worker.send(wire.to_bytes("copies", {"of": [None]}))
    done = frame_after(frames, "progress")
    assert [row.member for row in wire.rows_from_bytes(done.body)] == ["00.jpg"]
    os.kill(worker._process.pid, signal.SIGKILL)
    gone = wire.from_bytes(next(frames))
    assert (gone.kind, gone.head["crashed"]) == ("gone", False)
    assert next(frames, None) is None


def test_an_actor_whose_node_sees_another_archive_captions_nothing(
    folder: Path, light: Light
) -> None:
    worker, frames = begun(light)
    assert frame_after(frames, "at").kind == "ready"
    path, size = landmark(str(folder), task_of(folder, "00.jpg")) or ("", 0)
    (folder / "00.jpg").rename(folder / "elsewhere.jpg")  # as if it were not mounted
    (folder / "00.jpg").symlink_to("nothing")
    worker.send(
        wire.to_bytes(
            "caption",
            {"archive": str(folder), "task": {}, "landmark": [path, size]},
        )
    )
    with pytest.raises(ArchiveError, match=rf"there is no {path} of {size} bytes here"):
        raise wire.error_from_json(wire.from_bytes(next(frames)).head)


def test_an_actor_passes_on_what_ended_its_process(light: Light) -> None:
    _, frames = begun(light, "that_cannot_be_loaded")
    error = wire.error_from_json(frame_after(frames, "at").head)
    assert (type(error).__name__, str(error)) == (
        "ModelNotFoundError",
        "no such model: captioner/9",
    )
    _, frames = begun(light, "that_dies_at_once")
    gone = frame_after(frames, "at").head
    assert (gone["crashed"], gone["how"]) == (True, "ended with exit code 3")


def test_a_landmark_is_the_archive_or_the_first_picture_of_a_folder(
    folder: Path, tmp_path: Path, make_zip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = make_zip(tmp_path / "a.zip", [("x.jpg", b"x")])
    task = task_of(folder, "00.jpg")
    assert landmark(str(packed), task) == (str(packed), packed.stat().st_size)
    first = folder / "00.jpg"
    assert landmark(str(folder), task) == (str(first), first.stat().st_size)
    assert landmark(str(tmp_path / "gone"), task) is None
    assert landmark("s3://bucket/photos", task) is None
    name = b"caf\xe9.jpg"
    (folder / os.fsdecode(name)).write_bytes(b"four")
    skipped = Member("notes.txt", reason="other_file_type")
    odd = Task(Unit("u1", "photos", [skipped, Member("caf%E9.jpg", raw=name)]))
    plain = json.loads(json.dumps(wire.task_to_json(odd)))
    assert landmark(str(folder), plain) == (str(folder / os.fsdecode(name)), 4)
    monkeypatch.chdir(tmp_path)
    assert absolute("photos") == str(folder)
    assert absolute("s3://bucket/photos") == "s3://bucket/photos"


class FakeCluster:
    """What a connection needs of a cluster."""

    ours, where, room = False, "at head:6379", 7

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []
        self.forgotten: list[int] = []

    def send(self, kind: str, worker: int, body: bytes = b"") -> None:
        self.sent.append((kind, body))

    def forget(self, worker: int) -> None:
        self.forgotten.append(worker)


@pytest.fixture
def remote() -> Remote:
    return Remote(FakeCluster(), 5)  # type: ignore[arg-type]


def at(**other: str | None) -> wire.Frame:
    return wire.Frame("at", {"node": "n7", "versions": {**versions(), **other}})


def test_a_connection_tells_room_and_death(remote: Remote) -> None:
    remote.inbox.put(at())
    remote.inbox.put(wire.Frame("ready", {"room": 1}))
    remote.inbox.put(wire.Frame("gone", {"how": "was ended by SIGSEGV", "crashed": True}))
    ready = remote.receive()
    assert ready is not None
    assert ready.head["room"] == 7
    assert remote.receive() is None
    assert remote.autopsy() == ("was ended by SIGSEGV (on node n7)", True)
    assert remote.cluster.forgotten == [5]  # type: ignore[attr-defined]
    remote.end()
    assert remote.receive() is None


def test_a_node_with_other_software_is_refused(remote: Remote) -> None:
    remote.inbox.put(at(pillow="1.0"))
    with pytest.raises(ConfigError, match=r"node n7 .* has pillow 1\.0, this machine \d"):
        remote.receive()
    remote.inbox.put(at(torch=None))
    with pytest.raises(ConfigError, match="has torch not installed"):
        remote.receive()


def test_what_a_worker_meets_is_told_with_its_node(remote: Remote) -> None:
    remote.inbox.put(at())
    remote.inbox.put(wire.Frame("error", wire.error_to_json(ModelError("no weights"))))
    with pytest.raises(
        ModelError, match=r"^on node n7 of the Ray cluster at head:6379: no weights"
    ):
        remote.receive()


def test_what_a_worker_takes_of_a_node() -> None:
    pytest.importorskip("ray", reason="needs pip install 'captionmill[ray]'")
    from pipeline.caption.ray_driver import needs, room

    small, large = {"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0, "memory": 1e9}
    assert needs([small, large], "cpu", 2, 1.0) == {"CPU": 2, "GPU": 0}
    assert needs([small], "auto", 2, 1.0) == {"CPU": 2, "GPU": 0}
    assert needs([small, large], "auto", 2, 1.0) == {"CPU": 8, "GPU": 1.0}
    assert needs([small, large], "cuda", 2, 0.5) == {"CPU": 4, "GPU": 0.5}
    assert needs([small], "cuda", 2, 1.0) == {"CPU": 1, "GPU": 1.0}
    assert room([small, large], {"CPU": 3, "GPU": 0}) == 1 + 21
    assert room([small, large], {"CPU": 8, "GPU": 1.0}) == 8
    assert room([small, large], {"CPU": 4, "GPU": 0.5}) == 16


def test_what_ray_says_of_an_actor_is_told_in_our_words() -> None:
    pytest.importorskip("ray", reason="needs pip install 'captionmill[ray]'")
    from ray.exceptions import ActorDiedError, OutOfMemoryError, RayActorError, RayTaskError

    from pipeline.caption.ray_driver import last_frame

    gone = wire.from_bytes(last_frame(ActorDiedError()))
    assert gone.head == {"how": "was lost, or its node was", "crashed": False}
    starved = wire.from_bytes(last_frame(OutOfMemoryError("x"))).head
    assert (starved["crashed"], "out of memory" in starved["how"]) == (False, True)
    foreign = RayActorError(
        error_msg="...\nModuleNotFoundError: No module named 'pipeline'", actor_init_failed=True
    )
    error = wire.error_from_json(wire.from_bytes(last_frame(foreign)).head)
    assert isinstance(error, ConfigError)
    assert "cannot import captionmill (ModuleNotFoundError: No module named 'pipeline')" in str(
        error
    )
    bug = RayTaskError("f", "Traceback ... ZeroDivisionError: x", ZeroDivisionError("x"))
    assert isinstance(wire.error_from_json(wire.from_bytes(last_frame(bug)).head), RuntimeError)


def test_files_are_removed_when_nobody_makes_them_anew(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    code = (
        "import subprocess, sys, time; from pathlib import Path\n"
        "from pipeline.caption.ray_session import clear, of_this_session\n"
        "kept = Path(sys.argv[1])\n"
        "again = 'while :; do mkdir -p \"$0/logs\" 2>/dev/null; done'\n"
        "subprocess.Popen(['sh', '-c', again, str(kept)], process_group=0)\n"
        "while not (kept / 'logs').exists():\n"
        "    time.sleep(0.01)\n"
        "clear(str(kept))\n"
        "print(of_this_session())\n"
    )
    command = [sys.executable, "-c", code, str(kept)]
    ended = subprocess.run(
        command, start_new_session=True, capture_output=True, text=True, check=True
    )
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
    assert not kept.exists()
