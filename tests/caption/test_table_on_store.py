"""A table on object storage: the objects are the files of the table on disk, byte for byte."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import fsspec
import polars
import pytest

from pipeline import storage
from pipeline.caption import caption, compact, rollback, verify
from pipeline.caption.export import export
from pipeline.errors import BusyError, StorageError, TableError
from pipeline.remote import RemotePath, s3
from pipeline.remote import lock as locks

TIMES = "_report.json"
"""The one file that tells times."""


def on_store(table: RemotePath) -> dict[str, bytes]:
    start = len((table / "").key)
    found = {path.key[start:]: path.read_bytes() for path, _ in table.entries(below=True)}
    return {name: content for name, content in found.items() if name != TIMES}


def on_disk(table: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(table)): path.read_bytes()
        for path in table.rglob("*")
        if path.is_file() and path.name not in (TIMES, ".lock")
    }


@pytest.fixture
def table(bucket):
    return bucket / "tables/one"


def test_the_table_is_that_on_disk(folder, table, tmp_path, config, stub):
    (folder / "broken.jpg").write_bytes(b"no picture")
    report = caption(config, [folder], table, stub())
    caption(config, [folder], tmp_path / "here", stub())
    assert on_store(table) == on_disk(tmp_path / "here")
    assert report.table == str(table)
    assert json.loads((table / TIMES).read_bytes())["discovered"] == 11
    assert verify(table).captioned == 10
    outs = []
    for place in (table, tmp_path / "here"):
        with open(tmp_path / "out.jsonl", "wb") as out:
            export(place, out, "jsonl")
        outs.append((tmp_path / "out.jsonl").read_bytes())
    assert outs[0] == outs[1]


def test_others_read_the_table_where_it_lies(folder, table, config, stub, s3_server):
    caption(config, [folder], table, stub())
    there = fsspec.filesystem("s3")
    database = duckdb.connect()
    database.register_filesystem(there)
    counted = database.sql(f"select count(*) from read_parquet('{table}/part-*.parquet')")
    assert counted.fetchall() == [(10,)]
    plain = {name.lower(): value for name, value in os.environ.items() if name.startswith("AWS_")}
    options = {name: plain[name] for name in ("aws_access_key_id", "aws_secret_access_key")}
    options |= {"aws_endpoint_url": s3_server.url, "aws_allow_http": "true"}
    options |= {"aws_region": "us-east-1"}
    assert polars.scan_parquet(f"{table}/*.parquet", storage_options=options).collect().height == 10


def test_archives_and_table_on_the_same_prefix(folder, bucket, config, stub, capsys):
    for path in folder.rglob("*.jpg"):
        (bucket / "p" / str(path.relative_to(folder))).write_bytes(path.read_bytes())
    table = bucket / "p/captions"
    assert caption(config, [bucket / "p"], table, stub()).discovered == 10
    again = caption(config, [bucket / "p"], table, stub())
    assert (again.discovered, again.units_reused) == (10, again.units)
    assert "nothing new" in capsys.readouterr().err


def test_a_table_grows_and_loses_as_on_disk(folder, table, tmp_path, config, stub, picture):
    def both(**how):
        for place in (table, tmp_path / "here"):
            caption(config, [folder], place, stub(), **how)
        assert on_store(table) == on_disk(tmp_path / "here")

    both()
    (folder / "new.jpg").write_bytes(picture(50))
    (folder / "00.jpg").write_bytes(picture(51, size=(30, 30)))
    both()
    (folder / "00.jpg").unlink()
    both()
    both(prune=True)
    caption(config, [folder], table, stub(fingerprint="new", model_version="4"), refresh=True)
    assert {name for name in on_store(table) if name.startswith("_previous/part-")}
    rollback(table)
    verify(table)


def test_compacting_to_and_from_object_storage(folder, bucket, tmp_path, config, stub):
    caption(config, [folder], bucket / "t", stub())
    compact(bucket / "t", bucket / "large")
    compact(bucket / "t", tmp_path / "large")
    assert on_store(bucket / "large") == on_disk(tmp_path / "large")
    verify(bucket / "large")
    with pytest.raises(TableError, match="lies in the table itself"):
        compact(bucket / "t", bucket / "t/sub")


def test_what_is_lost_or_damaged_is_found_and_made_again(folder, table, config, stub):
    caption(config, [folder], table, stub())
    whole = on_store(table)
    parts = sorted(name for name in whole if name.startswith("part-"))
    receipts = sorted(name for name in whole if name.startswith("_receipts/"))
    (table / parts[0]).unlink()
    with pytest.raises(TableError, match=f"{parts[0]} is missing"):
        verify(table)
    (table / receipts[1]).unlink()
    (table / parts[2]).write_bytes(b"cut")
    with pytest.raises(TableError, match=f"{parts[2]} is not the file that its receipt tells of"):
        verify(table)
    caption(config, [folder], table, stub())
    assert on_store(table) == whole


def test_a_prefix_that_holds_something_else_is_refused(folder, bucket, config, stub):
    (bucket / "photos/2020/a.jpg").write_bytes(b"x")
    with pytest.raises(TableError, match="is not a caption table: it holds 2020;"):
        caption(config, [folder], bucket / "photos", stub())
    with pytest.raises(TableError, match="is not a caption table"):
        verify(bucket / "nothing")


def test_two_runs_at_once(folder, table, config, stub):
    with storage.lock(table), pytest.raises(BusyError, match=r"another run .* is writing s3://"):
        caption(config, [folder], table, stub())


def test_a_run_that_lost_its_lock_stops_and_the_next_one_finishes(
    folder, table, tmp_path, config, stub, monkeypatch
):
    monkeypatch.setattr(locks, "BEAT", 0.01)
    put = s3.put

    def broken(bucket, key, *what, **conditions):
        tag = put(bucket, key, *what, **conditions)
        if "part-" in key and locks._HELD:
            storage.break_lock(table)
            locks._HELD[table]._thread.join(60)
        return tag

    with monkeypatch.context() as patch:
        patch.setattr(s3, "put", broken)
        with pytest.raises(BusyError, match="no longer holds the lock"):
            caption(config, [folder], table, stub())
    caption(config, [folder], table, stub())
    caption(config, [folder], tmp_path / "here", stub())
    assert on_store(table) == on_disk(tmp_path / "here")


def test_a_store_that_fails_stops_the_run_and_the_next_one_finishes(
    folder, table, tmp_path, config, stub, monkeypatch
):
    caption(config, [folder], tmp_path / "here", stub())
    for limit in range(3, 60, 4):
        run, requests = s3._run, []

        def failing(asked, run=run, requests=requests, limit=limit):
            requests.append(1)
            if len(requests) > limit:
                raise StorageError("the store cannot be reached")
            return run(asked)

        finished = True
        with monkeypatch.context() as patch:
            patch.setattr(s3, "_run", failing)
            try:
                caption(config, [folder], table, stub())
            except StorageError:
                finished = False
        # Its process is alive, so that its lock would be waited for; and the request that fails
        # may be the one that releases it.
        storage.break_lock(table)
        if finished:
            break
    assert on_store(table) == on_disk(tmp_path / "here")


@pytest.mark.parametrize("how", ["commits", "random"])
def test_killed_at_any_moment_the_objects_are_the_same(folder, bucket, tmp_path, config, stub, how):
    script = Path(__file__).with_name("run_and_kill_on_store.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = functools.partial(subprocess.run, check=False, capture_output=True, text=True)
    done = run([sys.executable, script, how, folder, str(bucket / "t")], env=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] >= told["wanted"], told
    caption(config.model_copy(update={"unit_size": 5}), [folder], tmp_path / "here", stub())
    here = on_disk(tmp_path / "here")
    for name in told["tables"]:
        assert on_store(bucket / "t" / name) == here, name
