"""Archives and tables: on disk, on a store that answers, and on one that does not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipeline.doctor import Finding, Inputs, places
from pipeline.remote import RemotePath
from pipeline.remote.lock import lock


@pytest.fixture(autouse=True)
def _attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")  # put back what the check sets


def found(archives: list[object] = (), tables: list[object] = ()) -> list[Finding]:
    given = Inputs(work="/w", archives=list(map(str, archives)), tables=list(map(str, tables)))
    return list(places.check(given))


def test_a_table_on_a_store_is_tried_and_left_as_it_was(bucket: RemotePath) -> None:
    table = bucket / "captions"
    findings = found(tables=[table])
    assert [each.status for each in findings] == ["ok"] * 3
    assert "keeps If-None-Match" in findings[0].text
    assert "put, read and deleted" in findings[1].text
    assert "clock agrees" in findings[2].text
    assert not table.exists()


def test_who_holds_a_table(bucket: RemotePath) -> None:
    with lock(bucket / "captions"):
        finding = found(tables=[bucket / "captions"])[-1]
    assert "a run holds it" in finding.text


def test_an_archive_is_only_read(bucket: RemotePath) -> None:
    (bucket / "photos" / "a.jpg").write_bytes(b"x")
    assert [each.status for each in found(archives=[bucket / "photos"])] == ["ok"]
    assert [each.status for each in found(archives=[bucket / "photos" / "a.jpg"])] == ["ok"]
    (finding,) = found(archives=[bucket / "nothing"])
    assert (finding.status, "nothing below" in finding.text) == ("wrong", True)


def test_a_bucket_that_is_not_there(bucket: RemotePath) -> None:
    (finding,) = found(tables=["s3://no-such-bucket-here/captions"])
    assert finding.status == "wrong"
    assert "there is no bucket" in finding.text


def test_a_store_that_is_away(bucket: RemotePath, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.remote import s3

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    s3._store.cache_clear()
    try:
        (finding,) = found(tables=[bucket / "captions"])
    finally:
        s3._store.cache_clear()
    assert finding.status == "wrong"
    assert "the network and AWS_ENDPOINT_URL" in finding.text


def test_local_places(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    findings = found(
        archives=[tmp_path / "photos", tmp_path / "photos/a.jpg", tmp_path / "empty", "nothing"],
        tables=[tmp_path / "captions", "/proc/sys/captions", tmp_path / "photos/a.jpg/captions"],
    )
    assert [each.status for each in findings] == [
        "ok", "ok", "warning", "wrong", "ok", "wrong", "wrong",
    ]  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "photos"]


def test_an_address_of_another_kind_is_wrong(tmp_path: Path) -> None:
    (finding,) = found(archives=["https://u:hunter2@example.org/x"])
    assert finding.status == "wrong"
    assert "hunter2" not in finding.model_dump_json()


def test_the_store_in_the_settings_is_written_to(tmp_path: Path) -> None:
    given = Inputs(work="/w", overrides=[f"shard.store={tmp_path / 'sets'}"])
    (finding,) = places.check(given)
    assert (finding.status, finding.subject) == ("ok", f"shard.store {tmp_path / 'sets'}")
