"""Archives on object storage: the rows are those of the same archives on disk."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from pipeline.caption import caption
from pipeline.caption.archives import Reading, name_sources, open_archive, open_archives
from pipeline.caption.members import Member
from pipeline.errors import ArchiveError, ImageError, StorageError
from pipeline.remote import RemotePath, blocks, s3
from pipeline.remote.blocks import Blocks

MOST = 1 << 20


def up(source: Path, target: RemotePath) -> RemotePath:
    """Copy a file, or a folder's files, to object storage."""
    if source.is_dir():
        for path in source.rglob("*"):
            if path.is_file():
                (target / str(path.relative_to(source))).write_bytes(path.read_bytes())
    else:
        target.write_bytes(source.read_bytes())
    return target


def rows(table: Path) -> list[dict]:
    return sorted(ds.dataset(table).to_table().to_pylist(), key=lambda row: row["member"])


@pytest.mark.parametrize("kind", ["folder", "tar", "tar.gz", "zip", "parquet", "list"])
def test_rows_are_those_of_the_archive_on_disk(
    kind, folder, bucket, tmp_path, config, stub, make_tar, make_zip
):
    pictures = {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.jpg"))
    }
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("a word")
    (folder / ".hidden.jpg").write_bytes(b"x")
    pictures["a dir/100%25 & é+#?versionId=3.jpg"] = pictures["00.jpg"]
    (folder / "a dir").mkdir()
    (folder / "a dir/100%25 & é+#?versionId=3.jpg").write_bytes(pictures["00.jpg"])
    local = folder
    if kind in ("tar", "tar.gz"):
        local = make_tar(
            tmp_path / f"x.{kind}", [*pictures.items()], "w:gz" if "gz" in kind else "w"
        )
    elif kind == "zip":
        local = make_zip(tmp_path / "x.zip", [*pictures.items()])
    elif kind == "parquet":
        local = tmp_path / "x.parquet"
        columns = {
            "image": [*pictures.values()],
            "path": [*pictures],
            "note": ["n"] * len(pictures),
        }
        pq.write_table(pa.table(columns), local, row_group_size=3)
    elif kind == "list":
        local = folder / "files.txt"
        local.write_text("\n".join([*pictures, "missing.jpg", "broken.jpg"]))
        up(folder, bucket / "x")
    remote = bucket / "x/files.txt" if kind == "list" else up(local, bucket / local.name)
    report = caption(config, [remote], tmp_path / "there", stub())
    here = caption(config, [local], tmp_path / "here", stub())
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
    assert report.discovered == here.discovered >= len(pictures)
    assert report.failed == here.failed
    again = caption(config, [remote], tmp_path / "there", stub())
    assert again.units_reused == again.units


def test_only_what_is_new_under_a_prefix_is_captioned(
    folder, bucket, tmp_path, config, stub, picture
):
    place = up(folder, bucket / "photos")
    caption(config, [place], tmp_path / "table", stub())
    (place / "zz.jpg").write_bytes(picture(77))
    captioner = stub()
    report = caption(config, [place], tmp_path / "table", captioner)
    assert report.discovered == 11
    assert len(captioner.shapes) == 1


def test_an_object_that_was_replaced_within_a_second_has_changed(bucket):
    path = bucket / "p/a.jpg"
    path.write_bytes(b"one")
    before = next(open_archive(bucket / "p").members())
    path.write_bytes(b"two")
    after = next(open_archive(bucket / "p").members())
    assert before.size == after.size
    assert before.modified != after.modified
    assert abs(before.modified - after.modified) < 60 * 10**9


def test_what_a_prefix_lists(bucket):
    for key in (
        "p/b.jpg",
        "p/a/x.jpg",
        "p/../up.jpg",
        "p//two.jpg",
        "p/sub/",
        "p-not/c.jpg",
        "p/t/t.parquet",
    ):
        (bucket / key).write_bytes(b"content") if not key.endswith("/") else s3.put(
            bucket.bucket, key, b""
        )
    found = open_archive(bucket / "p", bucket / "p/t")
    names = [member.name for member in found.members()]
    assert names == ["../up.jpg", "/two.jpg", "a/x.jpg", "b.jpg"]
    assert {found.read(Member(name), MOST) for name in names} == {b"content"}
    whole = open_archive(bucket)
    assert "p-not/c.jpg" in {member.name for member in whole.members()}
    assert whole.read(Member("p//two.jpg"), MOST) == b"content"


def test_objects_that_cannot_be_read_are_rows(bucket):
    (bucket / "p/a.jpg").write_bytes(b"x" * 100)
    (bucket / "p/empty.jpg").write_bytes(b"")
    found = open_archive(bucket / "p")
    assert found.read(Member("empty.jpg"), MOST) == b""
    with pytest.raises(ImageError, match="unreadable_file: the file is gone since it was listed"):
        found.read(Member("b.jpg", size=5), MOST)
    for claimed in (100, 3):
        with pytest.raises(ImageError, match="too_many_bytes"):
            found.read(Member("a.jpg", size=claimed), 99)
    assert found.read(Member("a.jpg", size=100), 100) == b"x" * 100


def test_where_there_is_nothing(bucket):
    (bucket / "here/a.jpg").write_bytes(b"x")
    (bucket / "words/notes.md").write_bytes(b"x")
    (bucket / "tars/x.tar").write_bytes(b"x")
    with pytest.raises(ArchiveError, match=f"there is no object {bucket}/her, and no key begins"):
        open_archive(bucket / "her")
    with pytest.raises(ArchiveError, match="holds no pictures"):
        open_archives([bucket / "words"])
    with pytest.raises(ArchiveError, match=rf"give them: {bucket}/tars/\*.tar"):
        open_archives([bucket / "tars"])
    with pytest.raises(ArchiveError, match="is a single picture"):
        open_archive(bucket / "here/a.jpg")
    with pytest.raises(StorageError, match="there is no bucket s3://no-such-bucket"):
        open_archive(RemotePath("no-such-bucket", "photos"))


def test_sources_are_named_by_the_last_part_of_their_url(bucket, tmp_path):
    for key in ("one/photos/a.jpg", "two/photos/a.jpg", "c/a.jpg"):
        (bucket / key).write_bytes(b"x")
    paths = [bucket / "one/photos", bucket / "two/photos", bucket / "c", bucket]
    named = name_sources(open_archives([*paths, bucket / "c"]), {})
    assert [source.name for source in named] == [
        *(f"{bucket}/one/photos", f"{bucket}/two/photos", "c", bucket.bucket)
    ]
    assert [source.path for source in named] == [str(path) for path in paths]
    # The table knows the name for another archive, which is still there.
    known = {"c": str(bucket / "one/photos")}
    assert name_sources(open_archives([bucket / "c"]), known)[0].name == f"{bucket}/c"
    known = {"c": str(bucket / "gone")}
    assert name_sources(open_archives([bucket / "c"]), known)[0].name == "c"


def test_a_list_on_disk_may_name_objects_and_files(bucket, folder, tmp_path):
    for key in ("p/a.jpg", "p/b b.jpg", "q/c.jpg"):
        (bucket / key).write_bytes(key.encode())
    lines = [
        f"{bucket}/p/a.jpg",
        f"{bucket}/p/b b.jpg",
        str(folder / "00.jpg"),
        f"{bucket}/q/none.jpg",
    ]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    found = open_archive(tmp_path / "list.txt")
    members = list(found.members())
    assert [member.name for member in members] == lines
    assert [member.size for member in members] == [7, 9, (folder / "00.jpg").stat().st_size, 0]
    assert found.read(members[1], MOST) == b"p/b b.jpg"
    assert found.read(members[2], MOST) == (folder / "00.jpg").read_bytes()
    with pytest.raises(ImageError, match="unreadable_file"):
        found.read(members[3], MOST)


@pytest.mark.parametrize("where", ["disk", "store"])
def test_a_root_confines_what_a_list_may_name(bucket, tmp_path, where):
    for key in ("in/a.jpg", "in-not/b.jpg", "in/../c.jpg"):
        (bucket / key).write_bytes(key.encode())
    lines = [
        "a.jpg",
        "./a.jpg",
        f"{bucket}/in/a.jpg",
        f"{bucket}/in-not/b.jpg",
        "../c.jpg",
        "s3://other/x.jpg",
    ]
    place = tmp_path if where == "disk" else bucket / "lists"
    (place / "list.txt").write_bytes("\n".join(lines).encode())
    found = open_archive(place / "list.txt", None, Reading(root=str(bucket / "in")))
    members = list(found.members())
    assert [member.reason for member in members] == [
        *(None, None, None, "outside_root", None, "outside_root")
    ]
    assert [found.read(members[n], MOST) for n in (0, 1, 2, 4)] == [
        *[b"in/a.jpg"] * 3,
        b"in/../c.jpg",
    ]
    with pytest.raises(ImageError, match=r"leads out of caption\.root"):
        found.read(members[3], MOST)


def test_a_sorted_list_is_looked_up_page_by_page(bucket, tmp_path, monkeypatch):
    keys = [f"p/{n:04}.jpg" for n in range(40)]
    for key in keys:
        (bucket / key).write_bytes(key.encode() + b"!")
    lines = [f"{bucket}/{key}" for key in keys for key in (f"{key[:-4]}-no.jpg", key)]
    (tmp_path / "list.txt").write_text("\n".join(lines))
    run, requests = s3._run, []
    monkeypatch.setattr(s3, "_run", lambda asked: requests.append(1) or run(asked))
    members = list(open_archive(tmp_path / "list.txt").members())
    assert [member.size for member in members] == [0, 11] * 40
    assert len(requests) == 1


def test_a_tar_is_read_by_few_requests(bucket, tmp_path, make_tar, monkeypatch):
    members = [(f"{n}.jpg", os.urandom(50_000)) for n in range(60)]
    place = up(make_tar(tmp_path / "x.tar", members), bucket / "x.tar")
    run, asked = s3._run, []

    def counted(requests):
        asked.extend(requests)
        return run(requests)

    monkeypatch.setattr(s3, "_run", counted)
    tar = open_archive(place)
    found = list(tar.members())
    assert [member.name for member in found] == [name for name, _ in members]
    with ThreadPoolExecutor(4) as pool:
        data = list(pool.map(lambda member: tar.read(member, MOST), found))
    assert data == [content for _, content in members]
    assert len(asked) <= 5, "3 MB in blocks of 1 MiB, each fetched once"


def test_blocks_are_fetched_once_and_forgotten_in_time(bucket, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    monkeypatch.setattr(blocks, "KEPT", 8)
    monkeypatch.setattr(blocks, "DIRECT", 4)
    content = os.urandom(50_500)
    (bucket / "x").write_bytes(content)
    found = Blocks(bucket / "x")
    spans = [(0, 10), (995, 10), (2500, 1600), (49_900, 5000), (50_500, 3), (100, 30_000), (0, 0)]
    with ThreadPoolExecutor(8) as pool:
        data = list(pool.map(lambda span: found.read(*span), spans * 10))
    assert data == [content[start : start + size] for start, size in spans] * 10
    assert len(Blocks._kept) <= 8


def test_reading_front_to_back_asks_for_more_at_a_time(bucket, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    content = os.urandom(40_500)
    (bucket / "x").write_bytes(content)
    get_all, asked = s3.get_all, []
    monkeypatch.setattr(s3, "get_all", lambda asks: asked.extend(asks) or get_all(asks))
    with (bucket / "x").open() as file:
        assert b"".join(iter(lambda: file.raw.read(500), b"")) == content
    assert len(asked) <= 12
    found = Blocks(bucket / "x")
    Blocks._kept.clear()
    asked.clear()
    assert [found.read(start, 10) for start in (0, 5000, 20_000)]
    assert [ask.span for ask in asked] == [(0, 1000), (5000, 6000), (20_000, 21_000)]


def test_an_archive_that_is_replaced_while_it_is_read_stops_the_run(bucket, tmp_path, make_tar):
    place = up(make_tar(tmp_path / "x.tar", [("a.jpg", bytes(3 << 20))]), bucket / "x.tar")
    tar = open_archive(place)
    member = next(tar.members())
    Blocks._kept.clear()
    place.write_bytes(place.read_bytes()[:-1] + b"x")
    with pytest.raises(StorageError, match="was replaced while it was read; run the same command"):
        tar.read(member, 4 << 20)
    place.unlink()
    with pytest.raises(StorageError, match="was deleted while it was read"):
        tar.read(member, 4 << 20)


def test_a_damaged_tar_is_rows_as_on_disk(bucket, tmp_path, make_tar, config, stub, picture):
    local = make_tar(tmp_path / "x.tar", [(f"{n}.jpg", picture(n)) for n in range(5)])
    os.truncate(local, local.stat().st_size // 2)
    place = up(local, bucket / "x.tar")
    caption(config, [place], tmp_path / "there", stub())
    caption(config, [local], tmp_path / "here", stub())
    assert rows(tmp_path / "there") == rows(tmp_path / "here")
