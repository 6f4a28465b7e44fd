from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from pipeline.errors import ConfigError, ModelNotFoundError
from pipeline.tracking import Tracker, runs, store
from pipeline.tracking.files import directory_fingerprint, local_path
from pipeline.tracking.runs import flatten


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "weights").write_bytes(b"1234")
    (directory / "captioner.json").write_text("{}")
    return directory


def test_a_run_is_found_again_by_its_fingerprint(work: Path) -> None:
    tracker = Tracker(work)
    with tracker.run("train", "first", "abc", {"lr": 0.1, "model": {"width": 8}}) as run:
        run.log_metrics({"loss": 2.0, "bad": math.nan, "worse": math.inf}, step=1)
        run.set_tags({"note": 1})
        run.log_dict({"a": 1}, "settings.json")
        first = run.run_id
    with Tracker(work).run("train", "first", "abc", {"lr": 0.2, "new": True}) as run:
        run.log_metrics({"loss": 1.0}, step=2)
        assert run.run_id == first
    with Tracker(work).run("train", "second", "def") as run:
        assert run.run_id != first
    stored = tracker.client.get_run(first)
    assert stored.data.params == {"lr": "0.1", "model.width": "8", "new": "true"}
    assert stored.data.metrics == {"loss": 1.0}
    assert [m.value for m in tracker.client.get_metric_history(first, "loss")] == [2.0, 1.0]
    assert stored.data.tags["note"] == "1"
    assert [path.name for path in (work / "mlflow-artifacts").rglob("settings.json")]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError, "FAILED"),
        (KeyboardInterrupt, "KILLED"),
        (SystemExit, "KILLED"),
        (None, "FINISHED"),
    ],
)
def test_a_run_ends_with_its_status(
    work: Path, error: type[BaseException] | None, status: str
) -> None:
    tracker = Tracker(work)
    seen = None
    try:
        with tracker.run("train", "n", "f") as run:
            seen = run.run_id
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt, SystemExit):
        assert error is not None
    assert tracker.client.get_run(seen).info.status == status


def test_registering_the_same_files_again_gives_the_same_version(work: Path, model: Path) -> None:
    tracker = Tracker(work)
    with tracker.run("train", "n", "f") as run:
        version = tracker.register("captioner", model, run.run_id, {"captionmill.cider": 1.5})
    assert Tracker(work).register("captioner", model, run.run_id) == version
    assert (version.ref, version.run_id) == ("captioner/1", run.run_id)
    assert version.tags["captionmill.cider"] == "1.5"
    assert directory_fingerprint(version.directory) == version.fingerprint
    (model / "weights").write_bytes(b"12345")
    assert tracker.register("captioner", model, run.run_id).version == 2
    assert tracker.register("other", model, run.run_id).ref == "other/1"
    assert [v.version for v in tracker.versions("captioner")] == [1, 2]


def test_files_that_are_gone_are_an_error_and_are_put_back_by_registering(
    work: Path, model: Path
) -> None:
    tracker = Tracker(work)
    version = tracker.register("captioner", model, None)
    shutil.rmtree(version.directory)
    with pytest.raises(
        ModelNotFoundError, match="captioner/1 is registered, but its files are gone"
    ):
        Tracker(work).resolve("captioner", version=1)
    again = Tracker(work).register("captioner", model, None)
    assert again.version == 1
    assert (again.directory / "weights").read_bytes() == b"1234"


def test_files_that_were_put_back_by_half_are_put_back_whole(work: Path, model: Path) -> None:
    tracker = Tracker(work)
    version = tracker.register("captioner", model, None)
    (version.directory / "weights").write_bytes(b"12")  # killed amid the copy
    again = Tracker(work).register("captioner", model, None)
    assert again.version == 1
    assert (again.directory / "weights").read_bytes() == b"1234"


def test_a_kill_while_the_database_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store.os, "replace", kill)
        with pytest.raises(KeyboardInterrupt):
            Tracker(tmp_path).client  # noqa: B018
    assert not (tmp_path / "mlflow.db").exists()
    assert Tracker(tmp_path).versions("captioner") == []
    Tracker(tmp_path).client.create_registered_model("captioner")
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", ".mlflow.lock"}


def test_a_database_that_is_none_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ConfigError, match=r"cannot be used: .*or move it away"):
        Tracker(tmp_path).versions("captioner")


def test_a_full_disk_is_told_when_a_run_starts(work: Path, monkeypatch) -> None:
    tracker = Tracker(work)

    def full(*_: object, **__: object) -> None:
        raise MlflowException(
            "(raised as a result)\n(sqlite3.OperationalError) database or disk is full\n[SQL: INSERT"
        )

    for request in ("create_experiment", "create_run"):
        with monkeypatch.context() as patch:
            patch.setattr(tracker.client, request, full)
            with (
                pytest.raises(ConfigError, match="disk is full; make room and run"),
                tracker.run("train", "x", "f"),
            ):
                pass
    with tracker.run("train", "x", "f") as run:
        assert run.run_id is not None


def test_a_work_directory_that_was_moved_or_copied_brings_its_versions_along(
    work: Path, model: Path, tmp_path: Path
) -> None:
    Tracker(work).register("captioner", model, None)
    copied, moved = tmp_path / "copied", tmp_path / "moved"
    shutil.copytree(work, copied)
    assert Tracker(copied).resolve("captioner", version=1).directory.is_relative_to(copied)
    work.rename(moved)
    assert Tracker(moved).resolve("captioner", version=1).directory.is_relative_to(moved)
    Tracker(moved).register("captioner", model, None)
    assert not work.exists()


def test_a_version_without_a_known_run_gets_one_of_its_own(work: Path, model: Path) -> None:
    version = Tracker(work).register("captioner", model, "0123456789abcdef0123456789abcdef")
    assert Tracker(work).client.get_run(version.run_id).info.status == "FINISHED"


def test_aliases_move_and_resolve(work: Path, model: Path) -> None:
    tracker = Tracker(work)
    tracker.register("captioner", model, None)
    (model / "weights").write_bytes(b"12345")
    tracker.register("captioner", model, None)
    assert tracker.aliases("captioner") == {}
    tracker.set_alias("captioner", "champion", 1)
    tracker.set_alias("captioner", "champion", 2)
    tracker.set_alias("captioner", "previous", 1)
    assert tracker.aliases("captioner") == {"champion": 2, "previous": 1}
    assert tracker.resolve("captioner", alias="champion").version == 2
    assert tracker.resolve("captioner", version=1).version == 1
    tracker.set_alias("captioner", "previous", None)
    assert tracker.aliases("captioner") == {"champion": 2}
    with pytest.raises(
        ModelNotFoundError, match=r"captioner has versions 1, 2, aliases champion -> 2"
    ):
        tracker.resolve("captioner", alias="previous")
    with pytest.raises(ModelNotFoundError, match=r"captioner/7; captioner has versions 1, 2"):
        tracker.resolve("captioner", version=7)
    with pytest.raises(ModelNotFoundError, match=r"it has: captioner\); run `captionmill retrain"):
        tracker.resolve("writer", alias="champion")


def test_an_attached_file_lies_among_the_versions_files(work: Path, model: Path) -> None:
    tracker = Tracker(work)
    version = tracker.register("captioner", model, None)
    tracker.attach(version, model / "weights", "evidence")
    assert (version.root / "evidence" / "weights").is_file()
    assert tracker.versions("captioner")[0] == version


def test_an_empty_registry_is_told_without_importing_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "installed", lambda: pytest.fail("imported MLflow"))
    with pytest.raises(
        ModelNotFoundError, match=r"no champion yet: .*captionmill retrain"
    ) as caught:
        Tracker(tmp_path / "none").resolve("captioner", alias="champion")
    assert "it is empty" in str(caught.value)
    assert not (tmp_path / "none").exists()


def test_without_mlflow_runs_go_untracked_and_the_registry_says_how_to_install_it(
    tmp_path: Path,
    model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    for cached in (store.installed, runs._say_untracked):
        cached.cache_clear()
    try:
        for fingerprint in ("a", "b"):
            with Tracker(tmp_path).run("train", "n", fingerprint, {"x": 1}) as run:
                run.log_metrics({"loss": 1.0}, step=1)
                assert run.run_id is None
        assert capsys.readouterr().err.count("mlflow is not installed") == 1
        with pytest.raises(ConfigError, match="pip install 'mlflow"):
            Tracker(tmp_path).register("captioner", model, None)
    finally:
        store.installed.cache_clear()


def test_a_tracking_uri_of_the_users_is_respected(
    tmp_path: Path, work: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{work / 'mlflow.db'}")
    tracker = Tracker(tmp_path / "elsewhere")
    assert tracker.uri.endswith("mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://me:secret@host")
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        Tracker(tmp_path).register("captioner", model, None)
    assert "me:***@host" in str(caught.value)


def test_small_functions() -> None:
    assert flatten({"a": {"b": {"c": 1}}, "d": [1, None], "e": "x"}) == {
        "a.b.c": "1",
        "d": "[1, null]",
        "e": "x",
    }
    assert local_path("file:///a%20b/c") == Path("/a b/c")
    assert local_path("/a/b") == Path("/a/b")
    assert local_path("s3://bucket/key") is None


def test_a_copied_work_directory_does_not_write_into_the_original(work: Path) -> None:
    with Tracker(work).run("train", "first", "f1"):
        pass
    copy = work.with_name("copy")
    shutil.copytree(work, copy)
    with (
        pytest.raises(ConfigError, match="was made elsewhere"),
        Tracker(copy).run("train", "second", "f2"),
    ):
        pass
