"""`caption`: every input is a row, exactly once, whatever the archive and however often it runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import math
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from pipeline import storage
from pipeline.caption import caption, verify
from pipeline.config import CaptionConfig
from pipeline.errors import ArchiveError, BusyError, ConfigError, TableError

Rows = Callable[[Path], list[dict[str, Any]]]
ByMember = Callable[[Path], dict[str, Any]]
Pack = Callable[[Path, list[tuple[str, bytes]]], Path]


def contents(folder: Path) -> list[tuple[str, bytes]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path.relative_to(folder)), path.read_bytes()) for path in files]


class StoppedError(Exception):
    """Stands for a run that ends early."""


def stopping(captioner: Any, calls: int, before: Callable[[], object] = lambda: None) -> Any:
    """The captioner, which raises at its call number `calls`, after `before`."""
    inner, left = captioner.caption_pixels, calls

    def caption_pixels(*args: Any, **kwargs: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            before()
            raise StoppedError
        return inner(*args, **kwargs)

    captioner.caption_pixels = caption_pixels
    return captioner


def test_more_candidates_than_the_models_own_beams_are_refused_before_any_work(
    folder: Path, tmp_path: Path, stub: Any
) -> None:
    config = CaptionConfig(candidates=4)
    with pytest.raises(ConfigError, match=r"candidates = 4, but a beam of 3 .* own is 3"):
        caption(config, [folder], tmp_path / "table", stub())
    assert not (tmp_path / "table").exists()


def test_a_row_carries_what_the_design_says(
    folder: Path, tmp_path: Path, stub: Any, by_member: ByMember
) -> None:
    config = CaptionConfig(unit_size=4, batch_size=3, candidates=2)
    report = caption(config, [folder], tmp_path / "table", stub())
    row = by_member(tmp_path / "table")["b/c d/05.jpg"]
    data = (folder / "b/c d/05.jpg").read_bytes()
    assert row["caption"].startswith("a picture of red ")
    assert row["score"] < 0
    assert row.pop("candidates") == [
        {"caption": row["caption"], "score": row["score"]},
        {"caption": row["caption"], "score": pytest.approx(row["score"] - 1)},
    ]
    assert row.pop("caption") and row.pop("score")
    assert row == {
        "source": "photos",
        "member": "b/c d/05.jpg",
        "occurrence": 0,
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "width": 24,
        "height": 18,
        "status": "captioned",
        "error_code": None,
        "error": None,
        "model_name": "captioner",
        "model_version": "3",
        "recipe": report.recipe,
        "meta": None,
        "in_archive": True,
    }
    schema = ds.dataset(sorted((tmp_path / "table").glob("*.parquet"))[:1]).schema
    assert schema.metadata[b"captionmill.schema_version"] == b"2"


def test_folder_tars_and_zip_of_the_same_pictures_give_the_same_captions(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, by_member: ByMember,
    make_tar: Pack, make_zip: Pack,
) -> None:  # fmt: skip
    members = contents(folder)
    plain = make_tar(tmp_path / "a.tar", members)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
    samples = [
        (name.replace("jpg", ext), data if ext == "jpg" else json.dumps({"of": name}).encode())
        for name, data in members
        for ext in ("jpg", "json")
    ]
    wds = make_tar(tmp_path / "wds.tar", samples)
    make_zip(tmp_path / "a.zip", members)
    found = {}
    for path in (folder, plain, tmp_path / "a.tar.gz", wds, tmp_path / "a.zip"):
        report = caption(config, [path], tmp_path / f"table-{path.name}", stub())
        assert (report.discovered, report.captioned) == (10, 10)
        rows = by_member(tmp_path / f"table-{path.name}")
        assert {row["source"] for row in rows.values()} == {path.name}
        found[path.name] = {
            name: {key: row[key] for key in ("sha256", "caption", "score", "width", "recipe")}
            for name, row in rows.items()
        }
        if path == wds:
            assert {n: json.loads(row["meta"]) for n, row in rows.items()} == {
                n: {"of": n} for n, _ in members
            }
    assert all(captions == found["photos"] for captions in found.values())
    assert len({row["caption"] for row in found["photos"].values()}) == 10
    assert not [path for path in tmp_path.rglob("*.jpg") if folder not in path.parents]


def test_batches_never_cross_a_unit_and_are_always_full(
    folder: Path, tmp_path: Path, stub: Any
) -> None:
    captioner = stub()
    caption(CaptionConfig(unit_size=4, batch_size=3), [folder], tmp_path / "t", captioner)
    # Ten pictures are units of 4, 4 and 2: batches of 3+1, 3+1 and 2.
    assert captioner.shapes == [(3, 3, 16, 16)] * 5


def test_every_kind_of_bad_input_is_a_row_with_its_code(
    tmp_path: Path, stub: Any, picture: Callable[..., bytes], by_member: ByMember,
    make_tar: Pack, rows: Rows,
) -> None:  # fmt: skip
    good = picture(1, size=(300, 200))
    root = tmp_path / "in"
    root.mkdir()
    files = {
        "good.jpg": good,
        "huge.jpg": good + b"\0" * 100_000,
        "many.png": picture(2, "PNG", (400, 400)),
        "none.jpg": b"",
        "text": b"hello",
        "cut.jpg": good[: len(good) // 2],
        "drawing.jpg": b"<svg xmlns='http://www.w3.org/2000/svg'></svg>",
        "notes.txt": b"x",
        ".hidden.jpg": good,
    }
    for name, data in files.items():
        (root / name).write_bytes(data)
    (root / "link.jpg").symlink_to("/etc/hostname")
    (root / "broken.jpg").symlink_to("nowhere.jpg")
    packed = tmp_path / "in.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("secret.jpg", good)
        archive.infolist()[0].flag_bits |= 1
    cut = make_tar(tmp_path / "in.tar", [("whole.jpg", good), ("part.jpg", good)])
    cut.write_bytes(cut.read_bytes()[: 512 + -(-len(good) // 512) * 512 + 512 + 100])
    config = CaptionConfig(unit_size=3, batch_size=2, max_bytes=50_000, max_pixels=100_000)
    report = caption(config, [root, packed, cut], tmp_path / "table", stub())
    found = {(r["source"], r["member"]): r for r in rows(tmp_path / "table")}
    codes = {key: (row["status"], row["error_code"]) for key, row in found.items()}
    assert codes == {
        ("in", ".hidden.jpg"): ("skipped", "hidden_file"),
        ("in", "broken.jpg"): ("failed", "unreadable_file"),
        ("in", "cut.jpg"): ("failed", "truncated"),
        ("in", "drawing.jpg"): ("failed", "unsupported_format"),
        ("in", "good.jpg"): ("captioned", None),
        ("in", "huge.jpg"): ("failed", "too_many_bytes"),
        ("in", "link.jpg"): ("skipped", "link_outside_archive"),
        ("in", "many.png"): ("failed", "too_many_pixels"),
        ("in", "none.jpg"): ("failed", "zero_bytes"),
        ("in", "notes.txt"): ("skipped", "other_file_type"),
        ("in", "text"): ("failed", "not_an_image"),
        ("in.zip", "secret.jpg"): ("failed", "encrypted_member"),
        ("in.tar", "whole.jpg"): ("captioned", None),
        ("in.tar", "part.jpg"): ("failed", "unreadable_member"),
        ("in.tar", ""): ("failed", "damaged_archive"),
    }
    assert report.balanced()
    assert (report.discovered, report.captioned, report.units) == (15, 2, 6)
    assert sum(report.failed.values()) == 10
    assert report.skipped == {
        "hidden_file": 1,
        "link_outside_archive": 1,
        "other_file_type": 1,
    }
    for row in found.values():
        assert (row["error"] is None) == (row["status"] == "captioned")
        assert (row["caption"] is None) == (row["status"] != "captioned")
    unread = found["in", "huge.jpg"]
    assert (unread["sha256"], unread["bytes"]) == (None, len(good) + 100_000)
    assert verify(tmp_path / "table").failed == report.failed


def test_a_file_that_vanishes_after_the_listing_is_a_row(
    tmp_path: Path, stub: Any, picture: Callable[..., bytes], by_member: ByMember
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    for number in range(30):
        (root / f"{number:02d}.jpg").write_bytes(picture(number))
    captioner = stub()
    inner = captioner.caption_pixels

    def caption_pixels(*args: Any, **kwargs: Any) -> Any:
        (root / "29.jpg").unlink(missing_ok=True)
        return inner(*args, **kwargs)

    captioner.caption_pixels = caption_pixels
    config = CaptionConfig(unit_size=10, batch_size=2)
    report = caption(config, [root], tmp_path / "t", captioner)
    assert report.failed == {"unreadable_file": 1}
    assert by_member(tmp_path / "t")["29.jpg"]["error"] == "the file is gone since it was listed"


def test_equal_names_and_duplicates_are_rows_of_their_own(
    tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes], make_tar: Pack,
    rows: Rows, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for place in ("one", "two"):
        (tmp_path / place / "photos").mkdir(parents=True)
        (tmp_path / place / "photos" / "a.jpg").write_bytes(picture(len(place)))
    tar = make_tar(
        tmp_path / "t.tar", [("a.jpg", picture(1)), ("../a.jpg", picture(2)), ("a.jpg", picture(3))]
    )
    caption(config, [Path("one/photos"), Path("two/photos"), tar], tmp_path / "t", stub())
    keys = [(row["source"], row["member"], row["occurrence"]) for row in rows(tmp_path / "t")]
    assert keys == [
        ("one/photos", "a.jpg", 0),
        ("two/photos", "a.jpg", 0),
        ("t.tar", "a.jpg", 0),
        ("t.tar", "../a.jpg", 0),
        ("t.tar", "a.jpg", 1),
    ]


def test_two_runs_give_the_same_bytes_and_unit_size_does_not_move_a_row(
    folder: Path, tmp_path: Path, stub: Any, parts: Callable[[Path], dict[str, bytes]], rows: Rows
) -> None:
    for name, size in (("a", 4), ("b", 4), ("c", 7)):
        config = CaptionConfig(unit_size=size, batch_size=3)
        caption(config, [folder], tmp_path / name, stub())
    assert parts(tmp_path / "a") == parts(tmp_path / "b")
    assert rows(tmp_path / "a") == rows(tmp_path / "c")


def test_a_finished_table_run_again_redoes_nothing_and_says_so(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    table = tmp_path / "t"
    first = caption(config, [folder], table, stub())
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in table.rglob("*.*") if p.is_file()}
    capfd.readouterr()
    captioner = stub()
    again = caption(config, [folder], table, captioner)
    assert captioner.shapes == []
    printed = capfd.readouterr().err.splitlines()
    assert printed == [f"caption nothing new: 10 members in 3 units ({table})"]
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in table.rglob("*.*") if p.is_file()}
    assert {p.name for p in before if before[p] != after[p]} <= {".lock"}
    assert set(before) == set(after)
    assert (again.units_reused, again.captioned) == (3, first.captioned)


def test_over_a_grown_folder_only_what_is_new_is_captioned(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    by_member: ByMember, report: Callable[[Path], dict[str, Any]],
) -> None:  # fmt: skip
    table = tmp_path / "t"
    caption(config, [folder], table, stub())
    old = {path: path.stat().st_mtime_ns for path in table.glob("*.parquet")}
    (folder / "00a.jpg").write_bytes(picture(50))
    (folder / "zz.jpg").write_bytes(picture(51))
    captioner = stub()
    found = caption(config, [folder], table, captioner)
    assert len(captioner.shapes) == 1
    assert (found.discovered, found.captioned, found.units, found.units_reused) == (12, 12, 4, 3)
    assert {path: path.stat().st_mtime_ns for path in old} == old
    assert {"00a.jpg", "zz.jpg"} < set(by_member(table))
    assert report(table)["discovered"] == 12
    assert verify(table).discovered == 12


def test_a_run_that_ended_early_continues_with_the_next_unit(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any,
    parts: Callable[[Path], dict[str, bytes]],
) -> None:  # fmt: skip
    caption(config, [folder], tmp_path / "whole", stub())
    with pytest.raises(StoppedError):
        caption(config, [folder], tmp_path / "t", stopping(stub(), calls=3))
    assert len(parts(tmp_path / "t")) == 1
    captioner = stub()
    found = caption(config, [folder], tmp_path / "t", captioner)
    assert (found.units, found.units_reused, len(captioner.shapes)) == (3, 1, 3)
    assert parts(tmp_path / "t") == parts(tmp_path / "whole")


def test_a_plan_that_was_cut_short_continues_with_the_same_units(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any,
    parts: Callable[[Path], dict[str, bytes]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from pipeline.caption import plan

    caption(config, [folder], tmp_path / "whole", stub())
    monkeypatch.setattr(plan, "CHUNK", 4)
    commit = storage.commit

    def once(path: Path, content: Any) -> None:
        commit(path, content)
        if path.name.startswith("000000-"):
            raise StoppedError

    with monkeypatch.context() as patch, pytest.raises(StoppedError):
        patch.setattr(storage, "commit", once)
        caption(config, [folder], tmp_path / "t", stub())
    caption(config, [folder], tmp_path / "t", stub())
    assert len(list((tmp_path / "t" / "_plan").iterdir())) == 3
    assert parts(tmp_path / "t") == parts(tmp_path / "whole")


def test_a_tar_rewritten_between_two_runs_is_read_where_its_members_are_now(
    tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    make_tar: Pack, by_member: ByMember,
) -> None:  # fmt: skip
    members = [(f"{n}.jpg", picture(n, size=(20 + 5 * n, 20))) for n in range(10)]
    tar = make_tar(tmp_path / "a.tar", members)
    with pytest.raises(StoppedError):
        caption(config, [tar], tmp_path / "t", stopping(stub(), calls=2))
    rewritten = [member for member in reversed(members) if member[0] != "7.jpg"]
    make_tar(tar, rewritten)
    found = caption(config, [tar], tmp_path / "t", stub())
    assert (found.captioned, found.failed) == (9, {"unreadable_member": 1})
    rows = by_member(tmp_path / "t")
    assert rows["7.jpg"]["error_code"] == "unreadable_member"
    for name, data in rewritten:
        assert rows[name]["sha256"] == hashlib.sha256(data).hexdigest()
        assert rows[name]["width"] == 20 + 5 * int(name[0])


def test_a_model_under_another_reference_makes_no_other_rows(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any
) -> None:
    caption(config, [folder], tmp_path / "t", stub())
    found = caption(config, [folder], tmp_path / "t", stub(ref="/srv/models/captioner"))
    assert (found.units_reused, found.stale) == (3, 0)


def test_a_directory_that_holds_something_else_is_refused_and_left_alone(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any
) -> None:
    foreign = tmp_path / "home"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("x")
    with pytest.raises(TableError, match=r"holds thesis\.tex; give --table a new or empty"):
        caption(config, [folder], foreign, stub())
    assert os.listdir(foreign) == ["thesis.tex"]
    with pytest.raises(TableError, match="is a file"):
        caption(config, [folder], foreign / "thesis.tex", stub())
    newer = tmp_path / "newer"
    newer.mkdir()
    for text, message in (
        ("{", "not readable by this version"),
        ('{"format": "captionmill caption table", "format_version": 99}', "of format 99"),
    ):
        (newer / "_table.json").write_text(text)
        with pytest.raises(TableError, match=message):
            caption(config, [folder], newer, stub())
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / ".lock").touch()
    assert caption(config, [folder], empty, stub()).captioned == 10


def test_an_archive_without_pictures_leaves_no_table_behind(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any
) -> None:
    (tmp_path / "empty").mkdir()
    for archives in ([tmp_path / "empty"], [folder, tmp_path / "missing"]):
        with pytest.raises(ArchiveError):
            caption(config, archives, tmp_path / "t", stub())
    assert not (tmp_path / "t").exists()


def test_a_folder_that_is_empty_by_now_costs_no_row(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any
) -> None:
    """A disk that is not mounted must not turn what is left to do into failures."""
    with pytest.raises(StoppedError):
        caption(config, [folder], tmp_path / "t", stopping(stub(), calls=3))
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()
    with pytest.raises(ArchiveError, match="holds no pictures"):
        caption(config, [folder], tmp_path / "t", stub())
    folder.rmdir()
    (tmp_path / "elsewhere").rename(folder)
    assert caption(config, [folder], tmp_path / "t", stub()).captioned == 10


def test_a_second_run_on_the_same_table_is_refused(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any
) -> None:
    with storage.lock(tmp_path / "t"), pytest.raises(BusyError, match="another run"):
        caption(config, [folder], tmp_path / "t", stub())
    assert caption(config, [folder], tmp_path / "t", stub()).captioned == 10


def test_units_of_an_archive_that_is_not_given_are_not_forgotten(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    make_zip: Pack,
) -> None:  # fmt: skip
    other = make_zip(tmp_path / "b.zip", [("x.jpg", picture(1))])
    with pytest.raises(StoppedError):
        caption(config, [folder], tmp_path / "t", stopping(stub(), calls=3))
    with pytest.raises(TableError, match=r"unfinished units: 2 of photos \(.*photos\); run"):
        caption(config, [other], tmp_path / "t", stub())
    assert not (tmp_path / "t" / "_report.json").exists()
    found = caption(config, [folder], tmp_path / "t", stub())
    assert (found.discovered, found.captioned, found.units) == (11, 11, 4)


def test_a_table_inside_its_own_archive_is_not_captioned(
    folder: Path, config: CaptionConfig, stub: Any
) -> None:
    for _ in range(2):
        found = caption(config, [folder], folder / "captions", stub())
        assert (found.discovered, found.skipped) == (10, {})


def test_the_report_has_times_and_rates(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any,
    report: Callable[[Path], dict[str, Any]],
) -> None:  # fmt: skip
    found = caption(config, [folder], tmp_path / "t", stub())
    saved = report(tmp_path / "t")
    assert saved["started"] < saved["finished"]
    assert {key: saved[key] for key in found.model_dump()} == found.model_dump()
    # The report rounds to milliseconds, which a run of ten tiny pictures takes a few of.
    assert 10 / found.images_per_second == pytest.approx(found.seconds, abs=0.0006)
    assert found.table == str(tmp_path / "t")
    assert found.model == "captioner/3"


def test_a_score_that_is_no_number_stays_in_its_row(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, rows: Rows
) -> None:
    captioner = stub()
    inner = captioner.caption_pixels

    def caption_pixels(*args: Any, **kwargs: Any) -> Any:
        found = inner(*args, **kwargs)
        return [type(c)(c.text, math.nan, ((c.text, math.nan),)) for c in found]

    captioner.caption_pixels = caption_pixels
    caption(config, [folder], tmp_path / "t", captioner)
    assert all(math.isnan(row["score"]) for row in rows(tmp_path / "t"))


def test_a_big_gzipped_tar_is_read_once_front_to_back(
    tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for number in range(40):
            for name, data in (
                (f"{number:02d}.json", b'{"n": %d}' % number),
                (f"{number:02d}.png", picture(number, "PNG") + os.urandom(9000)),
            ):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    rewinds = 0
    rewind = gzip._GzipReader._rewind  # type: ignore[attr-defined]

    def counted(self: Any) -> None:
        nonlocal rewinds
        rewinds += 1
        rewind(self)

    monkeypatch.setattr(gzip._GzipReader, "_rewind", counted)  # type: ignore[attr-defined]
    found = caption(config, [path], tmp_path / "t", stub())
    assert (found.captioned, found.units) == (40, 10)
    # tarfile itself may go back to where it started, at most once a listing.
    assert rewinds <= 2
