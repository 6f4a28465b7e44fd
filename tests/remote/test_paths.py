"""Objects as paths: names, whole objects, ranges, files, listings."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import ConfigError, StorageError
from pipeline.remote import RemotePath, location, s3
from pipeline.remote.spans import fetch, joined


def test_a_url_is_a_path_with_the_names_of_pathlib():
    path = RemotePath.parse("s3://bucket/some/prefix/")
    assert str(path / "a.tar") == "s3://bucket/some/prefix/a.tar"
    tar = path / "parts" / "train-00000.tar"
    assert (tar.name, tar.stem, tar.suffix) == ("train-00000.tar", "train-00000", ".tar")
    assert str(tar.with_suffix(".index.json")) == f"{path}/parts/train-00000.index.json"
    assert tar.parent.parent == path
    assert str(RemotePath.parse("s3://bucket")) == str(RemotePath.parse("s3://bucket/"))
    assert pickle.loads(pickle.dumps(tar)) == tar


def test_keys_are_data():
    path = RemotePath("bucket") / "../up" / "a//b" / "50%25?versionId=x#é"
    assert path.key == "../up/a//b/50%25?versionId=x#é"
    assert location(str(path)) == path


def test_what_a_text_names():
    assert location("some/folder") == Path("some/folder")
    assert location("s3://b/x") == RemotePath("b", "x")
    for url in ("gs://b/x", "https://host/x", "hdfs://b"):
        with pytest.raises(ConfigError, match="give a local path or s3://bucket/prefix"):
            location(url)
    with pytest.raises(ConfigError, match="an empty path"):
        location("")
    for url in ("s3://", "s3:///key"):
        with pytest.raises(ConfigError, match="write s3://bucket/prefix"):
            location(url)


def test_a_remote_path_is_refused_by_what_opens_local_files():
    with pytest.raises(TypeError):
        Path(RemotePath("b", "x"))


def test_nothing_is_imported_until_there_is_a_url():
    code = (
        "import sys, pipeline.storage, pipeline.shards; print({'s3fs', 'fsspec'} & {*sys.modules})"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_whole_objects(bucket):
    path = bucket / "../x//a?versionId=1 #é%2F"
    assert not path.exists()
    with pytest.raises(FileNotFoundError, match="no such object"):
        path.read_bytes()
    path.write_bytes(b"one")
    first = path.stat()
    path.write_bytes(b"three")
    assert (path.read_bytes(), path.stat().st_size) == (b"three", 5)
    assert path.stat().etag != first.etag
    assert path.stat().st_mtime_ns >= first.st_mtime_ns > 0
    path.unlink()
    path.unlink()
    assert not path.exists()


def test_ranges(bucket):
    path = bucket / "x"
    path.write_bytes(bytes(range(100)))
    spans = [(0, 3), (97, 120), (100, 110), (5, 5), (40, 50)]
    found = s3.get_all([s3.Ask(path.bucket, path.key, span) for span in spans])
    assert found == [bytes(range(100))[a:b] for a, b in spans]


def test_ranges_close_together_are_one_request(bucket, monkeypatch):
    content = os.urandom(2 << 20)
    for name in ("one", "two"):
        (bucket / name).write_bytes(content)
    asked = []
    get_all = s3.get_all
    monkeypatch.setattr(s3, "get_all", lambda asks: asked.extend(asks) or get_all(asks))
    wanted = [(0, 1000), (1000, 5000), (6000, 7000), (1 << 20, (1 << 20) + 5), (2 << 20, 3 << 20)]
    found = fetch({bucket / "one": reversed(wanted), bucket / "two": wanted[:1]})
    for start, stop in wanted:
        assert found[bucket / "one"].read(stop - start, start) == content[start:stop]
    assert found[bucket / "two"].read(1000, 0) == content[:1000]
    assert [ask.span for ask in asked] == [
        (0, 7000),
        (1 << 20, (1 << 20) + 5),
        (2 << 20, 3 << 20),
        (0, 1000),
    ]


def test_joined_ranges_are_not_large_and_none_is_cut():
    rows = [(n << 20, n + 1 << 20) for n in range(20)]
    assert [(a >> 20, b >> 20) for a, b in joined(rows)] == [(0, 8), (8, 16), (16, 20)]
    assert joined([(0, 100 << 20), (5, 6)]) == [(0, 100 << 20)]


@pytest.mark.parametrize("size", [0, 10, 12 << 20, 16 << 20])
def test_a_large_object_goes_up_in_parts(bucket, tmp_path, monkeypatch, size):
    monkeypatch.setattr(s3, "PART", 5 << 20)
    data = os.urandom(size)
    file = tmp_path / "large"
    file.write_bytes(data)
    with file.open("rb") as opened:
        (bucket / "large").upload(opened)
    assert (bucket / "large").read_bytes() == data
    assert ("-" in (bucket / "large").stat().etag) == (size > s3.PART), "made of parts"


def test_an_upload_that_fails_leaves_nothing(bucket, monkeypatch):
    monkeypatch.setattr(s3, "PART", 5 << 20)

    class Broken:
        read = iter([b"x" * s3.PART, b"x" * s3.PART, OSError("disk")]).__next__

    def read(size: int) -> bytes:
        if isinstance(found := Broken.read(), OSError):
            raise found
        return found

    broken = Broken()
    broken.read = read
    with pytest.raises(OSError, match="disk"):
        (bucket / "large").upload(broken)
    assert list(bucket.entries(below=True)) == []
    assert "Uploads" not in s3._call("list_multipart_uploads", bucket.bucket, "")


def test_a_condition_keeps_what_is_there(bucket):
    tag = s3.put(bucket.bucket, "lock", b"mine", IfNoneMatch="*")
    with pytest.raises(FileExistsError):
        s3.put(bucket.bucket, "lock", b"theirs", IfNoneMatch="*")
    s3.put(bucket.bucket, "lock", b"still mine", IfMatch=tag)
    with pytest.raises(FileExistsError):
        s3.put(bucket.bucket, "lock", b"late", IfMatch=tag)
    assert (bucket / "lock").read_bytes() == b"still mine"


def test_listings_have_many_pages(bucket, monkeypatch):
    call = s3._call
    pages = []

    def small_pages(method, *where, **parameters):
        if method == "list_objects_v2":
            parameters["MaxKeys"] = 7
            pages.append(1)
        return call(method, *where, **parameters)

    monkeypatch.setattr(s3, "_call", small_pages)
    names = sorted(
        [f"p/{n:03}" for n in range(30)] + ["p/sub/a", "p/é", "p/a b+c%20&<x>", "p/z\x01"]
    )
    for name in [*names, "p-other", "pp/x"]:
        (bucket / name).write_bytes(name.encode())
    below = list((bucket / "p").entries(below=True))
    assert [entry.path.key for entry in below] == names
    assert [entry.stat.st_size for entry in below] == [len(name.encode()) for name in names]
    assert len(pages) == 5
    direct = [entry.path.key for entry in (bucket / "p").entries()]
    assert direct == [name for name in names if name != "p/sub/a"]
    assert [(bucket / name).is_dir() for name in ("p", "p/sub", "p/su", "none")] == [
        *(True, True, False, False)
    ]


def test_a_file_that_is_sought_in(bucket, tmp_path):
    tar, packed = tmp_path / "x.tar", tmp_path / "x.zip"
    with tarfile.open(tar, "w") as out, zipfile.ZipFile(packed, "w") as zipped:
        for n in range(20):
            (tmp_path / f"{n}").write_bytes(os.urandom(200_000))
            out.add(tmp_path / f"{n}", f"{n}")
            zipped.write(tmp_path / f"{n}", f"{n}")
    for path in (tar, packed):
        with path.open("rb") as file:
            (bucket / path.name).upload(file)
    with (bucket / "x.tar").open() as file, tarfile.open(fileobj=file) as opened:
        assert opened.getnames() == [f"{n}" for n in range(20)]
        assert opened.extractfile("7").read() == (tmp_path / "7").read_bytes()
    with (bucket / "x.zip").open() as file, zipfile.ZipFile(file) as opened:
        assert opened.testzip() is None
        assert opened.read("11") == (tmp_path / "11").read_bytes()


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(bucket):
    path = bucket / "x"
    path.write_bytes(bytes(3 << 20))
    with path.open() as file:
        assert file.read(10) == bytes(10)
        path.write_bytes(b"\1" * (3 << 20))
        file.seek(2 << 20)
        with pytest.raises(StorageError, match="replaced while it was read"):
            file.read(10)
