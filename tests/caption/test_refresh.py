"""Another model makes old rows stale, not wrong; a refresh replaces them and can be undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from pipeline.caption import caption, rollback, staleness, verify
from pipeline.caption.folder import Folder
from pipeline.caption.recipe import describe
from pipeline.caption.sealed import seal, unseal
from pipeline.caption.table import Table
from pipeline.config import CaptionConfig
from pipeline.errors import BusyError, ImageError, TableError
from pipeline.images import Transform

ByMember = Callable[[Path], dict[str, Any]]
Parts = Callable[[Path], dict[str, bytes]]

NEW = {"model_version": "4", "fingerprint": "0123", "ref": "captioner/4"}


class StoppedError(Exception):
    """Stands for a run that ends early."""


def stopping(captioner: Any, calls: int) -> Any:
    inner, left = captioner.caption_pixels, calls

    def caption_pixels(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoppedError
        return inner(*args, **kwargs)

    captioner.caption_pixels = caption_pixels
    return captioner


@pytest.fixture
def table(folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any) -> Path:
    caption(config, [folder], tmp_path / "t", stub())
    return tmp_path / "t"


def test_another_model_captions_only_what_is_new(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    by_member: ByMember, parts: Parts, report: Callable[[Path], dict[str, Any]],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    old = parts(table)
    (folder / "new.jpg").write_bytes(picture(50))
    captioner = stub(**NEW)
    found = caption(config, [folder], table, captioner)
    assert len(captioner.shapes) == 1
    assert {name: content for name, content in parts(table).items() if name in old} == old
    rows = by_member(table)
    assert {name for name, row in rows.items() if row["model_version"] == "4"} == {"new.jpg"}
    assert rows["new.jpg"]["recipe"] == found.recipe != rows["00.jpg"]["recipe"]
    assert (found.model, found.stale, report(table)["stale"]) == ("captioner/4", 10, 10)
    assert "10 pictures: captioned by another model" in capfd.readouterr().err
    assert verify(table).discovered == 11


def test_stale_counts_rows_says_why_and_estimates_the_hours(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes]
) -> None:
    told = unseal(storage.read_json(table / "_report.json"))
    storage.commit_json(table / "_report.json", seal(told | {"images_per_second": 2.0}))
    for captioner, settings, why in (
        (stub(), {}, None),
        (stub(device="cuda:1"), {"batch_size": 8, "unit_size": 99}, None),
        (stub(**NEW), {}, "model: captioner 3 (feedfacefeedface), not captioner 4 (0123)"),
        (stub(transform=Transform(size=32)), {}, "transform: "),
        (stub(dtype="torch.bfloat16"), {}, "dtype: float32, not bfloat16"),
        (stub(), {"beam": 2}, "generation: "),
        (stub(), {"format": "sentence"}, "format: raw, not sentence"),
        (stub(), {"max_bytes": 7}, "max_bytes: 67108864, not 7"),
    ):
        target = describe(config.model_copy(update=settings), captioner)
        found = staleness(table, target)
        assert found.rows == (10 if why else 0)
        assert found.hours == pytest.approx(found.rows / 2 / 3600)
        (group,) = found.groups
        assert (group.rows, group.deleted) == (10, 0)
        assert len(group.differences) == bool(why)
        assert why is None or group.differences[0].startswith(why)
    (folder / "00.jpg").unlink()
    (folder / "new.jpg").write_bytes(picture(50))
    caption(config, [folder], table, stub(**NEW))
    found = staleness(table, describe(config, stub(**NEW)))
    assert (found.rows, found.unfinished) == (9, 0)
    assert [(group.rows, group.deleted) for group in found.groups] == [(9, 1), (1, 0)]
    with pytest.raises(TableError, match="is not a caption table"):
        staleness(folder.parent / "nothing", describe(config, stub()))
    for path in Table(table).recipes.iterdir():
        path.unlink()
    with pytest.raises(TableError, match="does not say what that is"):
        staleness(table, describe(config, stub(**NEW)))


def test_a_refreshed_table_is_that_of_the_new_model_alone(
    folder: Path, table: Path, tmp_path: Path, config: CaptionConfig, stub: Any, parts: Parts,
    report: Callable[[Path], dict[str, Any]],
) -> None:  # fmt: skip
    old = parts(table)
    (folder / "bad.jpg").write_bytes(b"no picture")
    caption(config, [folder], table, stub())
    old = parts(table)
    caption(config, [folder], tmp_path / "fresh", stub(**NEW))
    captioner = stub(**NEW)
    found = caption(config, [folder], table, captioner, refresh=True)
    assert len(captioner.shapes) == 5
    assert (found.stale, report(table)["model"]) == (0, "captioner/4")
    fresh = {row["member"]: row for row in all_rows(tmp_path / "fresh")}
    assert {row["member"]: row for row in all_rows(table)} == fresh
    assert verify(table).discovered == 11
    kept = {p.name: p.read_bytes() for p in (table / "_previous").glob("*.parquet")}
    assert kept == old
    assert storage.read_json(table / "_previous" / "_refresh.json")["state"] == "whole"
    captioner = stub(**NEW)
    caption(config, [folder], table, captioner, refresh=True)
    assert captioner.shapes == []


def all_rows(table: Path) -> list[dict[str, Any]]:
    import pyarrow.dataset as ds

    found: list[dict[str, Any]] = ds.dataset(table).to_table().to_pylist()
    return found


def test_a_rollback_brings_the_old_bytes_back(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, parts: Parts
) -> None:
    old = parts(table)
    caption(config, [folder], table, stub(**NEW), refresh=True)
    assert not set(old.values()) & set(parts(table).values())
    report = rollback(table)
    assert parts(table) == old
    assert (report.model, report.stale) == ("captioner/3", 0)
    assert verify(table).discovered == 10
    assert not list((table / "_previous").iterdir())
    with pytest.raises(TableError, match="no refresh to roll back"):
        rollback(table)
    with storage.lock(table), pytest.raises(BusyError):
        rollback(table)


def test_a_refresh_that_was_stopped_goes_on_and_can_be_rolled_back_half_way(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, parts: Parts
) -> None:
    old = parts(table)
    with pytest.raises(StoppedError):
        caption(config, [folder], table, stopping(stub(**NEW), 3), refresh=True)
    half = parts(table)
    assert sum(half[name] != old[name] for name in old) == 1
    assert storage.read_json(table / "_previous" / "_refresh.json")["state"] == "running"
    captioner = stub(**NEW)
    caption(config, [folder], table, captioner)
    assert captioner.shapes == []
    assert parts(table) == half
    rollback(table)
    assert parts(table) == old
    with pytest.raises(StoppedError):
        caption(config, [folder], table, stopping(stub(**NEW), 3), refresh=True)
    captioner = stub(**NEW)
    assert caption(config, [folder], table, captioner, refresh=True).stale == 0
    assert len(captioner.shapes) == 3
    rollback(table)
    assert parts(table) == old


def test_the_next_refresh_keeps_what_it_replaces_itself(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, parts: Parts
) -> None:
    caption(config, [folder], table, stub(**NEW), refresh=True)
    second = parts(table)
    caption(config, [folder], table, stub(model_version="5", fingerprint="5"), refresh=True)
    rollback(table)
    assert parts(table) == second


def test_a_refresh_that_was_overtaken_by_a_third_model_rolls_back_to_the_first(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, parts: Parts
) -> None:
    first = parts(table)
    with pytest.raises(StoppedError):
        caption(config, [folder], table, stopping(stub(**NEW), 3), refresh=True)
    third = stub(model_version="5", fingerprint="5")
    assert caption(config, [folder], table, third, refresh=True).stale == 0
    rollback(table)
    assert parts(table) == first


def test_rows_that_came_or_changed_since_survive_a_rollback(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    by_member: ByMember,
) -> None:  # fmt: skip
    old = by_member(table)
    caption(config, [folder], table, stub(**NEW), refresh=True)
    (folder / "00.jpg").write_bytes(picture(52) + b"changed")
    (folder / "new.jpg").write_bytes(picture(53))
    (folder / "03.jpg").unlink()
    (folder / "06.jpg").unlink()
    caption(config, [folder], table, stub(**NEW))
    (folder / "09.jpg").unlink()
    caption(config, [folder], table, stub(**NEW), prune=True)
    rollback(table)
    rows = by_member(table)
    assert set(rows) == set(old) - {"03.jpg", "06.jpg", "09.jpg"} | {"new.jpg"}
    assert {name for name, row in rows.items() if row["model_version"] == "4"} == {
        "00.jpg",
        "new.jpg",
    }
    assert {name for name in rows if rows[name] != old.get(name)} == {"00.jpg", "new.jpg"}
    assert verify(table).discovered == 8


def test_pictures_that_are_gone_are_not_refreshed_nor_are_those_that_cannot_be_read(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, by_member: ByMember,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (folder / "03.jpg").unlink()
    inner = Folder.read

    def read(self: Folder, member: Any, most: int) -> bytes:
        if member.name == "00.jpg":
            raise ImageError("unreadable_file", "the file cannot be read (EIO)")
        return inner(self, member, most)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "read", read)
        found = caption(config, [folder], table, stub(**NEW), refresh=True)
    assert (found.captioned, found.stale, found.deleted) == (10, 1, 1)
    old = {name for name, row in by_member(table).items() if row["model_version"] == "3"}
    assert old == {"00.jpg", "03.jpg"}
    assert "1 picture: could not be read to caption them anew" in capfd.readouterr().err
    assert storage.read_json(table / "_previous" / "_refresh.json")["state"] == "running"
    assert caption(config, [folder], table, stub(**NEW), refresh=True).stale == 0
    assert storage.read_json(table / "_previous" / "_refresh.json")["state"] == "whole"


def test_a_refresh_of_one_archive_leaves_the_others_stale(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.jpg").write_bytes(picture(1))
    caption(config, [folder, other], tmp_path / "t", stub())
    captioner = stub(**NEW)
    found = caption(config, [other], tmp_path / "t", captioner, refresh=True)
    assert (len(captioner.shapes), found.stale) == (1, 10)
    assert caption(config, [folder], tmp_path / "t", stub(**NEW), refresh=True).stale == 0


def test_a_tar_that_was_rewritten_is_refreshed_from_where_its_members_are_now(
    tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    make_tar: Any, by_member: ByMember,
) -> None:  # fmt: skip
    members = [(f"{n}.jpg", picture(n, size=(20 + 5 * n, 20))) for n in range(10)]
    tar = make_tar(tmp_path / "a.tar", members)
    caption(config, [tar], tmp_path / "t", stub())
    old = by_member(tmp_path / "t")
    make_tar(tar, members[::-1])
    caption(config, [tar], tmp_path / "t", stub(**NEW), refresh=True)
    new = by_member(tmp_path / "t")
    for name, row in old.items():
        assert new[name]["model_version"] == "4"
        assert {k: row[k] for k in ("sha256", "width", "caption")} == {
            k: new[name][k] for k in ("sha256", "width", "caption")
        }


def test_a_damaged_old_part_is_an_error_that_names_it(
    folder: Path, table: Path, config: CaptionConfig, stub: Any
) -> None:
    caption(config, [folder], table, stub(**NEW), refresh=True)
    path = sorted((table / "_previous").glob("*.parquet"))[1]
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(
        TableError, match=rf"{path.name}: it is not the part that was kept; delete it"
    ):
        rollback(table)
    path.unlink()
    assert rollback(table).stale == 4
    assert verify(table).discovered == 10
