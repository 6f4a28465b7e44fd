import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from pipeline.errors import BadImagesError, BusyError, DataError, ShardError
from pipeline.records import ShardSet
from pipeline.shard import find_shard_set, shard, shard_directory
from pipeline.shards import ShardReader

Content = Callable[[Path], dict[str, bytes]]
RunKilled = Callable[[Any, Path, str], None]


def everything(record: ShardSet) -> dict[str, tuple[bytes, list[str]]]:
    """Picture and captions by file name, over all splits."""
    return {
        sample.info["file_name"]: (sample.image, sample.captions)
        for split in record.samples
        for sample in ShardReader(record, split)
    }


def test_same_input_same_bytes(sources: Any, make_sources: Any, content: Content) -> None:
    sources.coco(sources.numbered(35))
    twin = make_sources("twin")
    twin.coco(twin.numbered(35))
    for path in (twin.root / "images").iterdir():
        os.utime(path, (1, 1))
    settings = {"holdout": {"val": 0.2}, "seed": 5}

    one = shard(sources.config(**settings), sources.work)
    two = shard(twin.config(**settings), twin.work)

    assert one.fingerprint == two.fingerprint
    assert content(shard_directory(sources.config(**settings), sources.work)) == content(
        shard_directory(twin.config(**settings), twin.work)
    )
    other = shard(sources.config(holdout={"val": 0.2}, seed=6), sources.work)
    assert other.fingerprint != one.fingerprint


def test_a_set_that_was_moved_or_copied_stands_on_its_own(sources: Any, tmp_path: Path) -> None:
    sources.coco(sources.numbered(12))
    copied, moved = tmp_path / "copied", tmp_path / "moved"
    first = shard(sources.config(), sources.work)
    shutil.copytree(sources.work, copied)
    next(copied.rglob("*.tar")).unlink()
    with pytest.raises(ShardError, match=str(copied)):
        find_shard_set(sources.config(), copied)
    assert everything(shard(sources.config(), copied)) == everything(first)

    sources.work.rename(moved)
    record = find_shard_set(sources.config(), moved)
    assert Path(record.manifest).is_relative_to(moved)
    assert len(everything(record)) == 12


def test_samples_are_whole_and_shuffled(sources: Any) -> None:
    names = sources.numbered(35)
    sources.coco(names)
    record = shard(sources.config(), sources.work)

    assert record.samples == {"train": 35}
    assert record.captions == {"train": 70}
    reader = ShardReader(record, "train")
    assert [tar.count for tar in reader.tars] == [8, 9, 9, 9]
    order = [sample.info["file_name"] for sample in reader]
    assert sorted(order) == sorted(names)
    assert order != names
    for name, (image, captions) in everything(record).items():
        assert image == (sources.root / "images" / name).read_bytes()
        assert captions == [f"one {name}", f"two {name}"]
    info = reader.sample(0).info
    assert set(info) == {
        *("id", "captions", "split", "source", "file_name"),
        *("width", "height", "bytes", "sha256", "meta"),
    }
    assert (info["width"], info["height"], info["source"]) == (20, 16, "captions")


def test_rerun_reads_no_picture(
    sources: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sources.coco(sources.numbered(30))
    (sources.root / "images" / "3.jpg").write_bytes(b"not a picture")
    config = sources.config(max_bad_fraction=0.1)
    first = shard(config, sources.work)
    before = {path: path.stat().st_mtime_ns for path in sources.work.rglob("*") if path.is_file()}
    capsys.readouterr()

    def forbidden(pictures: Any) -> None:
        raise AssertionError(f"{pictures} were read")

    monkeypatch.setattr("pipeline.shard.tar.read_ahead", forbidden)
    monkeypatch.setattr("pipeline.shard.seen.read_ahead", forbidden)
    assert shard(config, sources.work) == first
    after = {path: path.stat().st_mtime_ns for path in sources.work.rglob("*") if path.is_file()}
    del before[shard_directory(config, sources.work) / ".lock"]
    assert before.items() <= after.items()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "nothing new: 29 samples in 3 tars" in lines[0]


def test_touched_files_are_hashed_once(sources: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sources.coco(sources.numbered(12))
    config = sources.config()
    first = shard(config, sources.work)
    seen = shard_directory(config, sources.work) / "seen.json"
    before = seen.read_bytes()
    os.utime(sources.root / "images" / "3.jpg", (5, 5))

    assert shard(config, sources.work) == first
    assert seen.read_bytes() != before
    assert "nothing new" in capsys.readouterr().err.splitlines()[-1]


def test_growth_appends_a_part(sources: Any, content: Content) -> None:
    sources.coco(sources.numbered(25))
    config = sources.config()
    directory = shard_directory(config, sources.work)
    first = shard(config, sources.work)
    before = content(directory)

    sources.coco(sources.numbered(40, first=25))
    second = shard(config, sources.work)

    after = content(directory)
    assert before.items() <= after.items()
    parts = json.loads(Path(second.manifest).read_text())["parts"]
    assert len(parts) == 2
    assert parts[:1] == json.loads(Path(first.manifest).read_text())["parts"]
    assert second.samples == {"train": 40}
    assert len(everything(second)) == 40
    assert len(everything(first)) == 25
    assert second.fingerprint != first.fingerprint


@pytest.mark.parametrize("change", ["caption", "picture", "same size", "vanished"])
def test_changes_leave_no_stale_sample(sources: Any, change: str) -> None:
    names = sources.numbered(20)
    sources.coco(names)
    config = sources.config()
    first = shard(config, sources.work)
    sources.coco(sources.numbered(30, first=20))
    grown = shard(config, sources.work)
    parts = json.loads(Path(grown.manifest).read_text())["parts"]
    names = [f"{n}.jpg" for n in range(30)]

    path = sources.root / "images" / "7.jpg"
    if change == "caption":
        sources.coco(names, {"7.jpg": ["another"]})
    elif change == "picture":
        sources.picture("7.jpg", seed=99)
    elif change == "same size":
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
    else:
        # COCO ids are positions here: the last one can go without changing the others.
        sources.coco(names[:-1])
    record = shard(config, sources.work)

    listed = json.loads(Path(record.manifest).read_text())["parts"]
    stale = parts[1] if change == "vanished" else parts[0]
    assert stale not in listed
    assert listed[0] == next(part for part in parts if part != stale)
    found = everything(record)
    assert sum(record.samples.values()) == len(found) == (29 if change == "vanished" else 30)
    if change != "vanished":
        image, captions = found["7.jpg"]
        assert image == path.read_bytes()
        assert captions == (["another"] if change == "caption" else ["one 7.jpg", "two 7.jpg"])
    assert everything(first)["7.jpg"][1] == ["one 7.jpg", "two 7.jpg"]


def test_data_that_goes_back_takes_its_old_parts_up_again(sources: Any) -> None:
    sources.coco(sources.numbered(12))
    config = sources.config()
    first = shard(config, sources.work)
    original = (sources.root / "images" / "4.jpg").read_bytes()
    sources.picture("4.jpg", seed=50)
    assert shard(config, sources.work).fingerprint != first.fingerprint
    sources.picture("4.jpg", seed=51)
    third = shard(config, sources.work)
    assert everything(third)["4.jpg"][0] == (sources.root / "images" / "4.jpg").read_bytes()
    (sources.root / "images" / "4.jpg").write_bytes(original)
    assert shard(config, sources.work) == first


def test_killed_run_resumes_to_the_same_bytes(
    sources: Any, content: Content, run_killed: RunKilled, tmp_path: Path
) -> None:
    sources.coco(sources.numbered(60))
    for n in (11, 42):
        (sources.root / "images" / f"{n}.jpg").write_bytes(b"\xff\xd8broken")
    config = sources.config(shard_size=5, max_bad_fraction=0.1)
    directory = shard_directory(config, sources.work)
    finished: dict[Path, int] = {}
    # Twelve tars with three commits each (tar, index, what was learnt), then the part's end.
    for before in ("14", "17", "part.json"):
        run_killed(config, sources.work, before)
        for path, inode in finished.items():
            assert path.stat().st_ino == inode, "a finished tar was written again"
        for done in (directory / "progress").glob("*/*.json"):
            tar = directory / "parts" / done.parent.name / f"{done.stem}.tar"
            finished[tar] = tar.stat().st_ino
        assert not (directory / "record.json").exists()
        assert len(finished) >= 2
    assert len(finished) == 12

    resumed = shard(config, sources.work)
    for path, inode in finished.items():
        assert path.stat().st_ino == inode
    whole = shard(config, tmp_path / "uninterrupted")
    assert resumed.fingerprint == whole.fingerprint
    assert resumed.bad == whole.bad != {}
    assert content(directory) == content(shard_directory(config, tmp_path / "uninterrupted"))
    assert not list(sources.work.rglob(f"{storage.TEMPORARY}*"))
    assert not (directory / "progress").exists()


@pytest.mark.parametrize("before", ["seen.json", "the set", "record.json"])
def test_killed_after_the_part_reads_nothing_again(
    sources: Any,
    content: Content,
    run_killed: RunKilled,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    before: str,
) -> None:
    sources.coco(sources.numbered(12))
    (sources.root / "images" / "3.jpg").write_bytes(b"\xff\xd8broken")
    config = sources.config(max_bad_fraction=0.1)
    whole = shard(config, tmp_path / "uninterrupted")
    run_killed(config, sources.work, before.replace("the set", Path(whole.manifest).name))

    def forbidden(pictures: Any) -> None:
        raise AssertionError(f"{pictures} were read")

    monkeypatch.setattr("pipeline.shard.tar.read_ahead", forbidden)
    monkeypatch.setattr("pipeline.shard.seen.read_ahead", forbidden)
    assert shard(config, sources.work).fingerprint == whole.fingerprint
    directory = shard_directory(config, sources.work)
    assert content(directory) == content(shard_directory(config, tmp_path / "uninterrupted"))


def test_picture_changed_between_kill_and_resume(sources: Any) -> None:
    sources.coco(sources.numbered(20))
    config = sources.config(shard_size=5)
    directory = shard_directory(config, sources.work)
    record = shard(config, sources.work)
    (part,) = (directory / "parts").iterdir()
    tars = ShardReader(record, "train").tars
    # As a kill just before the end of the part leaves it.
    stats = json.loads((directory / "seen.json").read_text())["stats"]
    for tar in tars:
        keys = [row["key"] for row in json.loads(tar.index.read_text())["samples"]]
        learnt = {"tar": tar.row(), "stats": {key: stats[key] for key in keys}, "bad": []}
        storage.commit_json(directory / "progress" / part.name / f"{tar.path.stem}.json", learnt)
    inodes = {tar.path: tar.path.stat().st_ino for tar in tars}
    for name in ("record.json", "seen.json"):
        (directory / name).unlink()
    (part / "part.json").unlink()
    changed = sources.picture("7.jpg", seed=77)

    again = shard(config, sources.work)
    assert everything(again)["7.jpg"][0] == changed.read_bytes()
    assert sum(path.stat().st_ino == inode for path, inode in inodes.items()) == 3


def test_damaged_part_is_written_anew(sources: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sources.coco(sources.numbered(20))
    config = sources.config()
    first = shard(config, sources.work)
    tar = ShardReader(first, "train").tars[0].path
    os.truncate(tar, tar.stat().st_size - 512)
    second = shard(config, sources.work)
    assert second.fingerprint == first.fingerprint
    assert len(everything(second)) == 20
    assert str(tar) in capsys.readouterr().err


def test_deleted_part_is_written_anew(sources: Any, content: Content) -> None:
    sources.coco(sources.numbered(20))
    config = sources.config()
    directory = shard_directory(config, sources.work)
    first = shard(config, sources.work)
    before = content(directory)
    for path in (directory / "parts").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(DataError, match="captionmill shard"):
        find_shard_set(config, sources.work)
    assert shard(config, sources.work) == first
    assert content(directory) == before


def test_bad_pictures_are_counted_by_kind_and_listed(sources: Any) -> None:
    names = sources.numbered(20)
    images = sources.root / "images"
    (images / "0.jpg").unlink()
    (images / "1.jpg").write_bytes(b"")
    (images / "2.jpg").write_bytes(b"hello, this is not a picture at all")
    (images / "3.jpg").write_bytes((images / "3.jpg").read_bytes()[:-40])
    (images / "4.jpg").unlink()
    (images / "4.jpg").mkdir()
    names.append("nul\0name.jpg")
    sources.coco(names, {"5.jpg": [], "6.jpg": ["  ", ""], "7.jpg": [" kept ", "", "kept"]})

    record = shard(sources.config(max_bad_fraction=0.5), sources.work)

    assert record.bad == {
        "missing": 1,
        "no_captions": 2,
        "not_an_image": 1,
        "truncated": 1,
        "unreadable_file": 2,
        "zero_bytes": 1,
    }
    assert record.samples == {"train": 13}
    assert everything(record)["7.jpg"][1] == ["kept", "kept"]
    report = [json.loads(line) for line in Path(record.report).read_text().splitlines()]
    assert {row["file_name"]: row["kind"] for row in report if row["kind"] != "empty_caption"} == {
        "0.jpg": "missing",
        "1.jpg": "zero_bytes",
        "2.jpg": "not_an_image",
        "3.jpg": "truncated",
        "4.jpg": "unreadable_file",
        "5.jpg": "no_captions",
        "6.jpg": "no_captions",
        "nul\0name.jpg": "unreadable_file",
    }
    assert [row["file_name"] for row in report if row["kind"] == "empty_caption"] == ["7.jpg"]


def test_mended_picture_joins(sources: Any) -> None:
    sources.coco(sources.numbered(10))
    good = (sources.root / "images" / "3.jpg").read_bytes()
    (sources.root / "images" / "3.jpg").write_bytes(good[:-30])
    config = sources.config(max_bad_fraction=0.2)
    assert shard(config, sources.work).bad == {"truncated": 1}
    (sources.root / "images" / "3.jpg").write_bytes(good)
    record = shard(config, sources.work)
    assert record.bad == {}
    assert len(everything(record)) == 10


def test_decode_check_finds_what_the_header_hides(sources: Any) -> None:
    sources.coco(sources.numbered(10))
    path = sources.root / "images" / "3.png"
    sources.picture("3.png", kind="PNG").rename(path)
    data = bytearray(path.read_bytes())
    start = data.index(b"IDAT") + 4
    data[start : start + 40] = bytes(40)
    (sources.root / "images" / "3.jpg").write_bytes(data)
    assert shard(sources.config(), sources.work).bad == {}
    record = shard(sources.config(check="decode", max_bad_fraction=0.2), sources.work)
    assert record.bad == {"corrupt": 1}


@pytest.mark.parametrize("how", ["missing", "unreadable"])
def test_too_many_bad_pictures_stop_it(sources: Any, how: str) -> None:
    sources.coco(sources.numbered(40))
    for n in range(9):
        path = sources.root / "images" / f"{n}.jpg"
        path.unlink()
        if how == "unreadable":
            path.write_bytes(b"\xff\xd8")
    config = sources.config(max_bad_fraction=0.2, shard_size=5)
    kind = "missing" if how == "missing" else "truncated"
    with pytest.raises(BadImagesError) as caught:
        shard(config, sources.work)
    directory = shard_directory(config, sources.work)
    message = str(caught.value)
    for part in ("9 of 40", f"9 {kind}", "0.2 allows 8", str(directory / "report.jsonl")):
        assert part in message
    assert len((directory / "report.jsonl").read_text().splitlines()) == 9
    written = {path.name for path in directory.rglob("*") if path.is_file()}
    assert written == {"report.jsonl", ".lock"}
    record = shard(sources.config(max_bad_fraction=0.25, shard_size=5), sources.work)
    assert record.samples == {"train": 31}


def test_nothing_usable(sources: Any) -> None:
    sources.coco(["a.jpg"])
    with pytest.raises(DataError, match="none of the 1 pictures"):
        shard(sources.config(max_bad_fraction=1.0), sources.work)


def test_two_runs_at_once(sources: Any) -> None:
    sources.coco(sources.numbered(3))
    config = sources.config()
    with (
        storage.lock(shard_directory(config, sources.work)),
        pytest.raises(BusyError, match=str(os.getpid())),
    ):
        shard(config, sources.work)


def test_find_needs_a_finished_set(sources: Any) -> None:
    sources.coco(sources.numbered(3))
    config = sources.config()
    with pytest.raises(DataError, match="run `captionmill shard`"):
        find_shard_set(config, sources.work)
    record = shard(config, sources.work)
    assert find_shard_set(config, sources.work) == record


def test_work_directory_may_move(sources: Any, tmp_path: Path) -> None:
    sources.coco(sources.numbered(12))
    config = sources.config()
    first = shard(config, sources.work)
    moved = sources.work.rename(tmp_path / "elsewhere")
    record = shard(config, moved)
    assert record.fingerprint == first.fingerprint
    assert len(everything(record)) == 12
    assert len(list(moved.glob("shard/*/parts/*"))) == 1


def test_settings_that_do_not_decide_content(sources: Any) -> None:
    one = sources.config(max_bad_fraction=0.5)
    two = sources.config().model_copy(update={"data_root": "/elsewhere", "device": "cpu"})
    assert shard_directory(one, sources.work) == shard_directory(two, sources.work)
    for change in ({"seed": 1}, {"shard_size": 3}, {"check": "decode"}, {"holdout": {"val": 0.1}}):
        assert shard_directory(sources.config(**change), sources.work) != shard_directory(
            one, sources.work
        )
