from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline import mirror
from pipeline.errors import ConfigError, DataError
from pipeline.remote import RemotePath


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_a_bucket_survives_the_way_there_and_back(
    bucket: RemotePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "PIECE", 1000)
    put = {"a": b"1", "models/m 1/weights": os.urandom(5000), "models/%25é#": b"", "empty/x": b"y"}
    for name, data in put.items():
        (bucket / "from" / name).write_bytes(data)
    (bucket / "elsewhere").write_bytes(b"not below")
    copy = tmp_path / "copy"
    assert mirror.mirror(bucket / "from", copy) == mirror.Copied(4, 0, 5002)
    assert contents(copy) == put
    assert mirror.mirror(bucket / "from", copy) == mirror.Copied(0, 4, 0)
    assert mirror.mirror(copy, bucket / "to").files == 4
    assert {
        path.key.removeprefix("to/"): path.read_bytes()
        for path, _ in (bucket / "to").entries(below=True)
    } == put
    for path in copy.rglob("*"):
        os.utime(path, (0, 0))
    assert mirror.mirror(copy, bucket / "to") == mirror.Copied(0, 4, 0)


def test_an_object_of_the_same_size_that_is_newer_is_copied_again(
    bucket: RemotePath, tmp_path: Path
) -> None:
    (bucket / "p" / "a").write_bytes(b"old")
    mirror.mirror(bucket / "p", tmp_path)
    os.utime(tmp_path / "a", (0, 0))
    (bucket / "p" / "a").write_bytes(b"new")
    assert mirror.mirror(bucket / "p", tmp_path).files == 1
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("key", ["p/../../escape", "p//double", "p/./dot"])
def test_a_key_that_leads_out_of_the_directory_is_refused(
    bucket: RemotePath, tmp_path: Path, key: str
) -> None:
    from pipeline.remote import s3

    s3.put(bucket.bucket, key, b"x")
    target = tmp_path / "a" / "b"
    with pytest.raises(DataError, match="no file may be called so"):
        mirror.mirror(bucket / "p", target)
    assert not list(tmp_path.rglob("escape"))


def test_nothing_to_copy_and_nonsense_are_errors(bucket: RemotePath, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing"):
        mirror.mirror(bucket / "nothing", tmp_path)
    with pytest.raises(ConfigError, match="one is to be a directory"):
        mirror.mirror(tmp_path, tmp_path)


def test_the_command(
    bucket: RemotePath, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert mirror.main([str(tmp_path), str(bucket / "p")]) == 0
    assert capsys.readouterr().out == f"1 files (0.0 MB) to {bucket / 'p'}; 0 were there\n"
    assert mirror.main([str(tmp_path / "none"), str(bucket / "p")]) == 3
    assert "error: " in capsys.readouterr().err
    assert mirror.main([]) == 2
