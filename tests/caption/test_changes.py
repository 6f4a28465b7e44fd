"""Run again over an archive that changed: what is captioned, what is kept, what is marked."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import caption, verify
from pipeline.caption.table import Table
from pipeline.config import CaptionConfig
from pipeline.errors import TableError

ByMember = Callable[[Path], dict[str, Any]]
Parts = Callable[[Path], dict[str, bytes]]
Pack = Callable[[Path, list[tuple[str, bytes]]], Path]


@pytest.fixture
def table(folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any) -> Path:
    caption(config, [folder], tmp_path / "t", stub())
    return tmp_path / "t"


def touch(path: Path) -> None:
    later = path.stat().st_mtime_ns + 5_000_000_000
    os.utime(path, ns=(later, later))


def test_a_changed_picture_is_captioned_again_in_its_place(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    by_member: ByMember, parts: Parts, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before, old = by_member(table), parts(table)
    (folder / "00.jpg").write_bytes(picture(52) + b"changed")
    capfd.readouterr()
    captioner = stub()
    found = caption(config, [folder], table, captioner)
    assert len(captioner.shapes) == 1
    after, new = by_member(table), parts(table)
    assert {name for name in before if before[name] != after[name]} == {"00.jpg"}
    assert after["00.jpg"]["bytes"] == len(picture(52)) + 7
    assert after["00.jpg"]["caption"] != before["00.jpg"]["caption"]
    assert [name for name in old if old[name] != new[name]] == [next(iter(old))]
    assert (found.discovered, found.units, found.units_reused) == (10, 3, 3)
    assert "1 picture: changed since and were captioned again" in capfd.readouterr().err
    assert verify(table).discovered == 10
    captioner = stub()
    caption(config, [folder], table, captioner)
    assert captioner.shapes == []
    assert "nothing new" in capfd.readouterr().err


def test_where_only_the_time_moved_the_row_stays_and_is_not_looked_at_twice(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, parts: Parts,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from pipeline.caption.folder import Folder

    before = parts(table)
    for path in folder.rglob("*.jpg"):
        touch(path)
    read: list[str] = []
    inner = Folder.read
    monkeypatch.setattr(
        Folder,
        "read",
        lambda self, member, most: read.append(member.name) or inner(self, member, most),
    )
    for times in (10, 0):
        captioner = stub()
        caption(config, [folder], table, captioner)
        assert captioner.shapes == []
        assert len(read) == times
        read.clear()
    assert "10 pictures: have another time or place, but the same bytes" in capfd.readouterr().err
    assert parts(table) == before
    assert verify(table).discovered == 10


def test_a_deleted_picture_keeps_its_row_marked_until_it_is_back(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, by_member: ByMember,
    parts: Parts, capfd: pytest.CaptureFixture[str], report: Callable[[Path], dict[str, Any]],
) -> None:  # fmt: skip
    before, whole = by_member(table), parts(table)
    path = folder / "03.jpg"
    data, times = path.read_bytes(), path.stat().st_mtime_ns
    path.unlink()
    capfd.readouterr()
    captioner = stub()
    found = caption(config, [folder], table, captioner)
    assert captioner.shapes == []
    assert (found.discovered, found.captioned, found.deleted) == (10, 10, 1)
    assert report(table)["deleted"] == 1
    after = by_member(table)
    assert after["03.jpg"] == before["03.jpg"] | {"in_archive": False}
    assert [name for name, row in after.items() if not row["in_archive"]] == ["03.jpg"]
    assert "1 picture: are no longer in their archive; their rows stay" in capfd.readouterr().err
    assert verify(table).deleted == 1
    caption(config, [folder], table, stub())
    assert "nothing new" in capfd.readouterr().err
    path.write_bytes(data)
    os.utime(path, ns=(times, times))
    captioner = stub()
    assert caption(config, [folder], table, captioner).deleted == 0
    assert captioner.shapes == []
    assert parts(table) == whole


def test_prune_removes_the_rows_of_deleted_pictures_and_they_may_come_again(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    by_member: ByMember,
) -> None:  # fmt: skip
    kept = by_member(table)
    (folder / "03.jpg").unlink()
    caption(config, [folder], table, stub())
    for path in (folder / "b").iterdir():
        if path.is_file():
            path.unlink()
    captioner = stub()
    found = caption(config, [folder], table, captioner, prune=True)
    assert captioner.shapes == []
    gone = {"03.jpg", "b/01.jpg", "b/04.jpg", "b/07.jpg"}
    assert (found.discovered, found.captioned, found.deleted) == (6, 6, 0)
    assert by_member(table) == {name: row for name, row in kept.items() if name not in gone}
    assert verify(table).discovered == 6
    (folder / "03.jpg").write_bytes(picture(77))
    captioner = stub()
    found = caption(config, [folder], table, captioner)
    assert len(captioner.shapes) == 1
    assert (found.discovered, found.units) == (7, 4)
    assert by_member(table)["03.jpg"]["in_archive"]
    assert verify(table).discovered == 7
    (folder / "03.jpg").unlink()
    assert caption(config, [folder], table, stub(), prune=True).discovered == 6
    assert caption(config, [folder], table, stub()).discovered == 6


def test_a_unit_whose_pictures_are_all_pruned_leaves_an_empty_part(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, parts: Parts, rows: Any
) -> None:
    for path in sorted(folder.glob("*.jpg")):
        path.unlink()
    found = caption(config, [folder], table, stub(), prune=True)
    assert (found.discovered, found.units) == (6, 3)
    assert len(parts(table)) == 3
    assert len(rows(table)) == 6
    assert verify(table).discovered == 6


def test_lost_receipts_of_a_table_with_history_are_made_again(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, parts: Parts,
    picture: Callable[..., bytes],
) -> None:  # fmt: skip
    (folder / "00.jpg").write_bytes(picture(52) + b"changed")
    (folder / "03.jpg").unlink()
    caption(config, [folder], table, stub())
    (folder / "06.jpg").unlink()
    caption(config, [folder], table, stub(), prune=True)
    whole = parts(table)
    receipts = {path: path.read_bytes() for path in (table / "_receipts").iterdir()}
    for path in receipts:
        path.unlink()
    captioner = stub()
    caption(config, [folder], table, captioner)
    assert captioner.shapes == []
    assert parts(table) == whole
    assert {path: path.read_bytes() for path in (table / "_receipts").iterdir()} == receipts
    assert verify(table).discovered == 8


def test_a_lost_part_of_a_pruned_unit_is_made_again_without_what_was_pruned(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, by_member: ByMember
) -> None:
    (folder / "03.jpg").unlink()
    caption(config, [folder], table, stub(), prune=True)
    (folder / "06.jpg").unlink()
    caption(config, [folder], table, stub())
    for path in table.glob("*.parquet"):
        path.unlink()
    found = caption(config, [folder], table, stub())
    assert (found.discovered, found.captioned, found.deleted) == (9, 8, 1)
    lost = by_member(table)["06.jpg"]
    assert (lost["status"], lost["in_archive"]) == ("failed", False)
    assert verify(table).discovered == 9


def test_what_a_damaged_archive_does_not_list_is_neither_marked_nor_pruned(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    make_tar: Pack, by_member: ByMember, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    tar = make_tar(tmp_path / "a.tar", [(f"{n}.jpg", picture(n)) for n in range(6)])
    whole = tar.read_bytes()
    caption(config, [tar], tmp_path / "a", stub())
    tar.write_bytes(whole[: len(whole) // 3])
    found = caption(config, [tar], tmp_path / "a", stub(), prune=True)
    assert found.deleted == 0
    rows = by_member(tmp_path / "a")
    assert {f"{n}.jpg" for n in range(6)} < set(rows)
    assert "not listed by a damaged archive; their rows stay" in capfd.readouterr().err
    tar.write_bytes(whole)
    assert caption(config, [tar], tmp_path / "a", stub(), prune=True).discovered == 6
    assert verify(tmp_path / "a").captioned == 6


def test_a_picture_that_becomes_something_else_changes_its_row(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, by_member: ByMember
) -> None:
    (folder / "00.jpg").write_bytes(b"no picture")
    (folder / "03.jpg").unlink()
    (folder / "03.jpg").symlink_to("/etc/hostname")
    found = caption(config, [folder], table, stub())
    assert (found.captioned, found.failed, found.skipped) == (
        8, {"not_an_image": 1}, {"link_outside_archive": 1},
    )  # fmt: skip
    assert by_member(table)["00.jpg"]["caption"] is None
    assert verify(table).discovered == 10


def test_what_could_not_be_read_is_tried_again_by_every_run(
    folder: Path, table: Path, tmp_path: Path, config: CaptionConfig, stub: Any, parts: Parts,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from pipeline.caption.folder import Folder
    from pipeline.errors import ImageError

    inner = Folder.read

    def read(self: Folder, member: Any, most: int) -> bytes:
        if member.name in ("00.jpg", "b/01.jpg"):
            raise ImageError("unreadable_file", "the file cannot be read (EIO)")
        return inner(self, member, most)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", read)
        broken = tmp_path / "broken"
        assert caption(config, [folder], broken, stub()).failed == {"unreadable_file": 2}
        before = parts(broken)
        told = (broken / "_report.json").stat().st_mtime_ns
        captioner = stub()
        assert caption(config, [folder], broken, captioner).failed == {"unreadable_file": 2}
        assert (captioner.shapes, parts(broken)) == ([], before)
        assert (broken / "_report.json").stat().st_mtime_ns == told
    captioner = stub()
    assert caption(config, [folder], broken, captioner).captioned == 10
    assert len(captioner.shapes) == 2
    assert parts(broken) == parts(table)
    assert "2 pictures: could not be read by an earlier run, and now were" in capfd.readouterr().err
    assert verify(broken).discovered == 10


def test_a_sidecar_that_changed_renews_the_meta_and_captions_nothing(
    tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    make_tar: Pack, by_member: ByMember,
) -> None:  # fmt: skip
    def pack(text: str) -> Path:
        samples = [
            (f"{n}.{kind}", picture(n) if kind == "jpg" else json.dumps({"of": text}).encode())
            for n in range(5)
            for kind in ("jpg", "json")
        ]
        return make_tar(tmp_path / "a.tar", samples)

    caption(config, [pack("x")], tmp_path / "t", stub())
    captioner = stub()
    caption(config, [pack("another")], tmp_path / "t", captioner)
    assert captioner.shapes == []
    assert {row["meta"] for row in by_member(tmp_path / "t").values()} == {'{"of": "another"}'}


def test_changes_of_archives_that_are_not_given_again_leave_the_table_unfinished(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.jpg").write_bytes(picture(1))
    table = tmp_path / "t"
    caption(config, [folder, other], table, stub())
    (folder / "00.jpg").write_bytes(picture(52) + b"changed")

    def stop(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    captioner = stub()
    captioner.caption_pixels = stop
    with pytest.raises(KeyboardInterrupt):
        caption(config, [folder, other], table, captioner)
    assert Table(table).changes.history().editions
    with pytest.raises(TableError, match=r"unfinished units: 1 of photos"):
        caption(config, [other], table, stub())
    with pytest.raises(TableError, match=r"unfinished units: 1 of photos"):
        verify(table)
    assert caption(config, [folder], table, stub()).captioned == 11
    assert verify(table).discovered == 11
