"""The lock of a prefix: one writer, found dead in time, and nothing committed by who lost it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

import pytest

from pipeline import storage
from pipeline.errors import BusyError, StorageError
from pipeline.remote import lock as locks
from pipeline.remote import s3

HOLDER = """
import sys, time
from pipeline import storage
from pipeline.remote import location
with storage.lock(location(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(bucket):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(bucket / "t")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def names(bucket) -> list[str]:
    return [entry.path.key for entry in bucket.entries(below=True)]


def test_only_one_holds_it_and_leaves_nothing(bucket):
    with storage.lock(bucket / "t"):
        assert names(bucket) == ["t/.lock"]
        refused = pytest.raises(BusyError, match=f"is writing {bucket}/t; wait for it or stop it")
        with refused, storage.lock(bucket / "t"):
            raise AssertionError("two")
        with storage.lock(bucket / "t2"):
            pass
        storage.commit(bucket / "t/x", b"data")
    assert names(bucket) == ["t/x"]
    with storage.lock(bucket / "t"):
        pass


def test_one_of_many_that_come_at_once(bucket):
    entered, refused = [], []
    start, leave = threading.Barrier(8), threading.Event()

    def run() -> None:
        start.wait()
        try:
            with storage.lock(bucket / "t"):
                entered.append(1)
                leave.wait()
        except BusyError:
            refused.append(1)
            if len(refused) == 7:
                leave.set()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(entered), len(refused)) == (1, 7)


def test_a_live_process_keeps_others_out_and_a_killed_one_does_not(bucket, holder):
    refused = pytest.raises(BusyError, match=rf"process {holder.pid} on .*--break-lock")
    with refused, storage.lock(bucket / "t"):
        raise AssertionError("two")
    holder.kill()
    holder.wait()
    with storage.lock(bucket / "t"):
        pass
    assert names(bucket) == []


def test_a_lock_from_another_machine_is_free_when_it_was_not_renewed(bucket, monkeypatch):
    theirs = {"owner": "x", "host": "elsewhere", "pid": 1, "started": "boot 1"}
    (bucket / "t/.lock").write_bytes(json.dumps(theirs).encode())
    with pytest.raises(BusyError, match="process 1 on elsewhere"), storage.lock(bucket / "t"):
        raise AssertionError("two")
    clock = s3.now
    monkeypatch.setattr(s3, "now", lambda *where: clock(*where) + locks.EXPIRY)
    with storage.lock(bucket / "t"):
        pass


def test_it_is_renewed_while_it_is_held(bucket, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    renewed = threading.Event()
    put, tags = s3.put, []

    def noted(*what, **conditions):
        tag = put(*what, **conditions)
        tags.append(tag)
        if len(tags) == 5:
            renewed.set()
        return tag

    monkeypatch.setattr(s3, "put", noted)
    with storage.lock(bucket / "t"):
        assert renewed.wait(60)
    assert len(set(tags)) == len(tags)
    assert names(bucket) == []


def test_who_lost_its_lock_commits_nothing_more(bucket, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    with storage.lock(bucket / "t"):
        held = locks._HELD[bucket / "t"]
        storage.break_lock(bucket / "t")
        held._thread.join(60)
        with pytest.raises(BusyError, match="this run no longer holds the lock of s3://"):
            storage.commit(bucket / "t/part", b"late")
        storage.commit(bucket / "other/part", b"free")
    assert names(bucket) == ["other/part"]


def test_who_cannot_renew_in_time_commits_nothing_more(bucket, monkeypatch):
    with storage.lock(bucket / "t"):
        monkeypatch.setattr(locks, "EXPIRY", -1.0)
        with pytest.raises(BusyError, match="could not be reached"):
            storage.commit(bucket / "t/part", b"late")
    assert names(bucket) == []


def test_who_took_over_keeps_its_lock_when_the_former_owner_leaves(bucket):
    with storage.lock(bucket / "t"):
        (bucket / "t/.lock").write_bytes(b'{"owner": "another"}')
    assert names(bucket) == ["t/.lock"]


def test_an_answer_that_was_lost_is_no_other_owner(bucket, monkeypatch):
    put = s3.put

    def deaf(*what, **conditions):
        put(*what, **conditions)
        raise FileExistsError

    with monkeypatch.context() as patch:
        patch.setattr(s3, "put", deaf)
        held = locks.Held(bucket / "t")
    held.release()
    assert names(bucket) == []


def test_a_store_without_conditions_is_refused(bucket, monkeypatch):
    put = s3.put
    monkeypatch.setattr(s3, "put", lambda *what, **_: put(*what))
    refused = pytest.raises(StorageError, match="does not keep the condition If-None-Match")
    with refused, storage.lock(bucket / "t"):
        raise AssertionError("unsafe")
    assert names(bucket) == []


def test_files_of_a_prefix_are_read_many_at_once(bucket, monkeypatch, tmp_path):
    for place in (bucket / "r", tmp_path / "r"):
        for n in range(20):
            storage.commit(place / f"{n}.json", f"{n}")
        storage.commit(place / "sub/x", b"no")
        wanted = [f"{n}.json" for n in (3, 19, 77, 0)]
        assert list(storage.read_many(place, wanted)) == [
            *(("3.json", b"3"), ("19.json", b"19"), ("0.json", b"0"))
        ]
        assert dict(storage.names(place)) == {f"{n}.json": len(f"{n}") for n in range(20)}
        assert [path.name for path in sorted(place.glob("1*.json"))] == sorted(
            f"{n}.json" for n in range(20) if f"{n}".startswith("1")
        )
