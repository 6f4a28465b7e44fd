"""Parquet as a source of `shard`: pictures as paths and as bytes, killed, grown and malformed."""

import datetime
import decimal
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline import storage
from pipeline.errors import AnnotationError, BadImagesError, ConfigError, DataError
from pipeline.records import ShardSet
from pipeline.shard import shard, shard_directory
from pipeline.shard.sources import read_sources
from pipeline.shards import Sample, ShardReader

Content = Callable[[Path], dict[str, bytes]]
PATHS = {"kind": "parquet", "annotations": "rows.parquet", "images": "images"}
BYTES = {"kind": "parquet", "annotations": "rows.parquet"}
FOLDER = {"kind": "parquet", "annotations": "data", "name": "set"}


def write(path: Path, rows: list[dict[str, Any]] | pa.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows)
    pq.write_table(table, path, **{"row_group_size": 3, **options})
    return path


def embedded(sources: Any, numbers: range, **further: Any) -> list[dict[str, Any]]:
    """Rows as Hugging Face's datasets write them."""
    rows = []
    for n in numbers:
        data = sources.picture(f"{n}.jpg", n).read_bytes()
        row = {"image": {"bytes": data, "path": f"{n}.jpg"}, "captions": [f"one {n}", f"two {n}"]}
        rows.append({**row, **further})
    return rows


def by_path(record: ShardSet, split: str = "train") -> dict[str, Sample]:
    return {sample.info["meta"]["path"]: sample for sample in ShardReader(record, split)}


def check(sources: Any, record: ShardSet, numbers: Any) -> None:
    found = by_path(record)
    assert sorted(found) == sorted(f"{n}.jpg" for n in numbers)
    for n in numbers:
        assert found[f"{n}.jpg"].captions == [f"one {n}", f"two {n}"]
        assert found[f"{n}.jpg"].image == (sources.root / "images" / f"{n}.jpg").read_bytes()


def test_paths_a_row_a_caption(sources: Any) -> None:
    sources.numbered(3)
    rows = [
        {"image": "0.jpg", "caption": " a dog", "split": "train", "nr": 1, "year": 1990},
        {"image": "1.jpg", "caption": "a cat", "split": "val", "nr": 2, "year": None},
        {"image": "2.jpg", "caption": None, "split": None, "nr": 3, "year": 1991},
        {"image": "0.jpg", "caption": "a dog again", "split": "train", "nr": 4, "year": 1990},
        {"image": "2.jpg", "caption": "a fox", "split": None, "nr": 5, "year": 1991},
    ]
    write(sources.root / "rows.parquet", rows)
    record = shard(sources.config(PATHS), sources.work)
    assert record.samples == {"train": 2, "val": 1}
    train = {sample.info["file_name"]: sample for sample in ShardReader(record, "train")}
    assert train["0.jpg"].captions == ["a dog", "a dog again"]
    assert train["0.jpg"].info["meta"] == {"nr": [1, 4], "year": 1990}
    assert train["0.jpg"].info["id"] == train["0.jpg"].key
    assert train["2.jpg"].captions == ["a fox"]
    assert train["2.jpg"].image == (sources.root / "images" / "2.jpg").read_bytes()


def test_paths_beside_the_file_and_other_column_names(sources: Any) -> None:
    sources.numbered(2)
    rows = [
        {
            "file": f"images/{n}.jpg",
            "c0": "eins",
            "c1": ["zwei", None, "drei"],
            "set": "dev",
            "nr": 70 + n,
        }
        for n in range(2)
    ]
    write(sources.root / "rows.parquet", rows)
    columns = {"image": "file", "captions": ["c0", "c1"], "split": "set", "id": "nr"}
    record = shard(sources.config({**BYTES, "columns": columns}), sources.work)
    infos = ShardReader(record, "dev").infos()
    assert sorted(info["id"] for info in infos) == [70, 71]
    assert all(info["captions"] == ["eins", "zwei", "drei"] for info in infos)
    assert all(info["meta"] == {} for info in infos)


@pytest.mark.parametrize("kind", ["struct", "binary", "large_binary"])
def test_bytes_a_row_a_picture(sources: Any, kind: str) -> None:
    rows = embedded(sources, range(8))
    if kind != "struct":
        rows = [
            {**row, "image": row["image"]["bytes"], "path": row["image"]["path"]} for row in rows
        ]
    table = pa.Table.from_pylist(rows)
    if kind == "large_binary":
        table = table.set_column(0, "image", table["image"].cast(pa.large_binary()))
    write(sources.root / "rows.parquet", table)
    record = shard(sources.config(BYTES), sources.work)
    check(sources, record, range(8))
    names = {info["file_name"] for info in ShardReader(record, "train").infos()}
    assert names == {f"rows.parquet#{n}" for n in range(8)}


def test_rows_of_one_id_are_one_picture(sources: Any) -> None:
    (one, two) = embedded(sources, range(2))
    rows = [
        {"image": row["image"], "cocoid": number, "caption": caption}
        for number, row in ((40, one), (30, two))
        for caption in row["captions"]
    ]
    write(sources.root / "rows.parquet", [rows[0], rows[2], rows[1], rows[3]])
    record = shard(sources.config({**BYTES, "columns": {"id": "cocoid"}}), sources.work)
    check(sources, record, range(2))
    assert sorted(info["id"] for info in ShardReader(record, "train").infos()) == [30, 40]
    write(sources.root / "rows.parquet", [{**row, "cocoid": f"x{row['cocoid']}"} for row in rows])
    record = shard(sources.config({**BYTES, "columns": {"id": "cocoid"}}), sources.work)
    assert sorted(info["id"] for info in ShardReader(record, "train").infos()) == ["x30", "x40"]


def test_a_struct_without_bytes_is_a_path(sources: Any) -> None:
    sources.numbered(2)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": f"{n}.jpg"} for n in range(2)], kind)
    write(sources.root / "rows.parquet", pa.table({"image": images, "caption": ["a", "b"]}))
    record = shard(sources.config(PATHS), sources.work)
    assert {i["file_name"] for i in ShardReader(record, "train").infos()} == {"0.jpg", "1.jpg"}


@pytest.mark.parametrize("annotations", ["data", "data/**/*.parquet"])
def test_folders_and_patterns(sources: Any, annotations: str) -> None:
    write(sources.root / "data" / "b-1.parquet", embedded(sources, range(4)))
    write(sources.root / "data" / "deep" / "a-2.parquet", embedded(sources, range(4, 9)))
    (sources.root / "data" / "README.md").write_text("no table")
    (sources.root / "data" / "folder.parquet").mkdir()
    record = shard(sources.config({**FOLDER, "annotations": annotations}), sources.work)
    check(sources, record, range(9))
    found = by_path(record)
    assert found["3.jpg"].info["file_name"] == "b-1.parquet#3"
    assert found["6.jpg"].info["file_name"] == "deep/a-2.parquet#2"


def test_files_of_a_split_each(sources: Any) -> None:
    for first, split in ((0, "train"), (5, "validation")):
        name = f"{split}-00000-of-00001.parquet"
        write(sources.root / "data" / name, embedded(sources, range(first, first + 5)))
    source = {"kind": "parquet"}
    config = sources.config(
        {**source, "annotations": "data/train-*.parquet", "split": "train"},
        {**source, "annotations": "data/validation-*.parquet", "split": "val"},
    )
    assert shard(config, sources.work).samples == {"train": 5, "val": 5}


def test_what_json_cannot_hold(sources: Any, capsys: pytest.CaptureFixture[str]) -> None:
    sources.numbered(1)
    when = datetime.datetime(2020, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    row = {
        "image": "0.jpg",
        "caption": "x",
        "when": when,
        "price": decimal.Decimal("1.50"),
        "score": float("nan"),
        "nested": {"day": datetime.date(2020, 1, 2), "scores": [0.5, float("inf")], "big": 1 << 60},
        "thumbnail": b"\x00",
        "masks": [{"bytes": b"\x00", "path": None}],
    }
    table = pa.Table.from_pylist([row])
    kind = table["caption"].combine_chunks().dictionary_encode()
    write(sources.root / "rows.parquet", table.append_column("kind", kind))
    (sample,) = ShardReader(shard(sources.config(PATHS), sources.work), "train")
    assert sample.info["meta"] == {
        "when": "2020-01-02 03:04:05.000000Z",
        "price": "1.50",
        "score": None,
        "nested": {"day": "2020-01-02", "scores": [0.5, None], "big": 1 << 60},
        "kind": "x",
    }
    assert "JSON cannot hold, left out: thumbnail, masks" in capsys.readouterr().err


def test_same_rows_same_bytes(sources: Any, make_sources: Any, content: Content) -> None:
    twin = make_sources("twin")
    found = []
    for some, options in ((sources, {}), (twin, {"row_group_size": 7, "compression": "none"})):
        write(some.root / "data" / "a.parquet", embedded(some, range(11)), **options)
        write(some.root / "data" / "b.parquet", embedded(some, range(11, 23)), **options)
        os.utime(some.root / "data" / "a.parquet", (len(found), 1))
        config = some.config(FOLDER, holdout={"val": 0.2})
        shard(config, some.work)
        found.append(content(shard_directory(config, some.work)))
    assert found[0] == found[1]


def test_rerun_reads_no_picture(
    sources: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = embedded(sources, range(12))
    rows[3]["image"]["bytes"] = b"not a picture"
    path = write(sources.root / "rows.parquet", rows)
    config = sources.config(BYTES, max_bad_fraction=0.1)
    first = shard(config, sources.work)
    assert first.bad == {"not_an_image": 1}
    assert not (shard_directory(config, sources.work) / "progress").exists()
    before = path.stat()
    os.utime(path, (5, 5))
    assert shard(config, sources.work) == first, "touched, it is hashed and is the same"
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    shard(config, sources.work)
    capsys.readouterr()

    def forbidden(pictures: Any) -> None:
        raise AssertionError(f"{pictures} were read")

    monkeypatch.setattr("pipeline.shard.unpack.read_embedded", forbidden)
    monkeypatch.setattr("pipeline.shard.seen.read_embedded", forbidden)
    assert shard(config, sources.work) == first
    assert "nothing new: 11 samples" in capsys.readouterr().err


def test_growth_and_change(sources: Any, content: Content) -> None:
    write(sources.root / "data" / "a.parquet", embedded(sources, range(12)))
    config = sources.config(FOLDER)
    directory = shard_directory(config, sources.work)
    first = shard(config, sources.work)
    before = content(directory)
    write(sources.root / "data" / "b.parquet", embedded(sources, range(12, 20)))
    second = shard(config, sources.work)
    assert before.items() <= content(directory).items()
    check(sources, second, range(20))

    rows = embedded(sources, range(20))
    rows[14]["image"]["bytes"] = sources.picture("14.jpg", 99).read_bytes()
    write(sources.root / "data" / "b.parquet", rows[12:])
    third = shard(config, sources.work)
    check(sources, third, range(20))
    parts = [json.loads(Path(one.manifest).read_text())["parts"] for one in (first, second, third)]
    assert parts[2][0] == parts[1][0] == parts[0][0]
    assert parts[2][1] != parts[1][1]


def test_killed_it_resumes_to_the_same_bytes(
    sources: Any, content: Content, run_killed: Any, tmp_path: Path
) -> None:
    rows = embedded(sources, range(60))
    rows[17]["image"]["bytes"] = rows[17]["image"]["bytes"][:-30]
    rows[41]["image"]["bytes"] = None
    write(sources.root / "data" / "a.parquet", rows[:33])
    write(sources.root / "data" / "b.parquet", rows[33:])
    config = sources.config(FOLDER, shard_size=5, max_bad_fraction=0.1)
    directory = shard_directory(config, sources.work)
    copies: dict[Path, int] = {}
    # Two commits a Parquet file, three a tar; of twelve tars.
    for before in ("2", "4", "14", "17", "part.json"):
        run_killed(config, sources.work, before)
        for path, inode in copies.items():
            assert path.stat().st_ino == inode, "a finished copy was made again"
        for sizes in (directory / "progress").glob("*/pictures/*.sizes"):
            copies[sizes.with_suffix("")] = sizes.with_suffix("").stat().st_ino
        assert not (directory / "record.json").exists()
    assert len(copies) == 2

    resumed = shard(config, sources.work)
    whole = shard(config, tmp_path / "uninterrupted")
    assert resumed.bad == whole.bad == {"missing": 1, "truncated": 1}
    assert content(directory) == content(shard_directory(config, tmp_path / "uninterrupted"))
    check(sources, resumed, [n for n in range(60) if n not in (17, 41)])
    assert not list(sources.work.rglob(f"{storage.TEMPORARY}*"))
    assert not (directory / "progress").exists()
    report = [json.loads(line) for line in Path(resumed.report).read_text().splitlines()]
    assert [row["file_name"] for row in report] == ["a.parquet#17", "b.parquet#8"]


def test_changed_between_kill_and_resume(sources: Any, run_killed: Any) -> None:
    rows = embedded(sources, range(20))
    write(sources.root / "rows.parquet", rows)
    config = sources.config(BYTES, shard_size=5)
    run_killed(config, sources.work, "10")
    rows[7]["image"]["bytes"] = sources.picture("7.jpg", 77).read_bytes()
    write(sources.root / "rows.parquet", rows)
    check(sources, shard(config, sources.work), range(20))


def test_changed_while_it_is_read(sources: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(sources.root / "rows.parquet", embedded(sources, range(5)))

    pictures = read_sources(sources.config(BYTES))
    monkeypatch.setattr("pipeline.shard.stage.read_sources", lambda _: pictures)
    os.utime(path, (9, 9))
    with pytest.raises(DataError, match=r"rows.parquet changed while it was read"):
        shard(sources.config(BYTES), sources.work)


def test_memory_is_bounded_by_a_few_pictures(sources: Any) -> None:
    """A row group of 96 MB is read page by page; a page is the least that can be read."""
    noise = [os.urandom(1 << 20) for _ in range(96)]
    table = pa.table({"image": noise, "caption": ["x"] * 96})
    write(sources.root / "rows.parquet", table, row_group_size=96, write_batch_size=1)
    del noise, table
    from pipeline.shard.embedded import by_file, read_embedded
    from pipeline.shard.locate import locate

    located, _ = locate(read_sources(sources.config(BYTES)))
    most = 0
    start = pa.total_allocated_bytes()
    for _ in read_embedded(by_file(located.values())[0]):
        most = max(most, pa.total_allocated_bytes() - start)
    assert 0 < most < 40 << 20


def test_too_many_bad_rows_stop_it(sources: Any) -> None:
    rows = embedded(sources, range(10))
    for n in range(5):
        rows[n]["image"]["bytes"] = b""
    write(sources.root / "rows.parquet", rows)
    config = sources.config(BYTES, max_bad_fraction=0.2)
    with pytest.raises(BadImagesError, match="5 of 10 pictures cannot be used \\(5 zero_bytes\\)"):
        shard(config, sources.work)
    directory = shard_directory(config, sources.work)
    written = {path.name for path in directory.rglob("*") if path.is_file()}
    assert written == {"report.jsonl", ".lock"}


ROW = {"image": "a.jpg", "caption": "x"}
UNSPLIT = {**ROW, "split": None}


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([{"img": "a", "caption": "x"}], {}, "no column `image`.*columns here: img, caption"),
        ([{"image": "a", "text": "x"}], {}, "no column `caption`.*columns here: image, text"),
        ([{**ROW, "captions": ["x"]}], {}, "both `caption` and `captions`"),
        ([ROW], {"captions": "text"}, "no column `text`"),
        ([ROW], {"split": "set"}, "no column `set`"),
        (
            [{**ROW, "caption": 5}],
            {},
            "column `caption` must hold texts or lists of texts, not int64",
        ),
        ([{**ROW, "caption": [{"raw": "x"}]}], {}, "`caption` must hold texts or lists of texts"),
        ([{**ROW, "split": 0}], {}, "column `split` must hold texts, not int64"),
        (
            [{**ROW, "image": 3}],
            {},
            r"column `image` must hold texts \(paths\), bytes, or a struct",
        ),
        ([{**ROW, "image": {"data": b""}}], {}, "column `image` must hold"),
        ([ROW, {**ROW, "image": None}], {}, "row 1: `image` is empty"),
        ([UNSPLIT, {**ROW, "caption": "y", "split": "val"}], {}, "row 1: 'a.jpg' has split 'val'"),
        ([UNSPLIT, {**ROW, "split": "../up"}], {}, "row 1: 'a.jpg' has split '../up'"),
        ([{**ROW, "split": "../up"}], {}, "row 0: split '../up' is not a name"),
        ([{**ROW, "n": 1}, {**ROW, "n": None}], {"id": "n"}, "row 1: `n` is empty"),
        ([{**ROW, "n": 1}, {**ROW, "n": 2}], {"id": "n"}, "row 1: 'a.jpg' has id 2, but 1 before"),
        (
            [{**ROW, "n": 1}, {**ROW, "image": "b.jpg", "n": 1}],
            {"id": "n"},
            "row 1: id 1 is of 'b.jpg', but of 'a.jpg' in row 0",
        ),
    ],
)
def test_malformed(sources: Any, rows: Any, columns: Any, message: str) -> None:
    path = write(sources.root / "rows.parquet", rows)
    with pytest.raises(AnnotationError, match=message) as caught:
        shard(sources.config({**PATHS, "columns": columns}), sources.work)
    assert str(path) in str(caught.value)
    assert not sources.work.exists()


def test_a_file_of_many_is_named(sources: Any) -> None:
    write(sources.root / "data" / "a.parquet", [{**ROW, "split": "val"}])
    write(sources.root / "data" / "b.parquet", [{**ROW, "split": "train"}])
    with pytest.raises(AnnotationError, match=r"data, b\.parquet, row 0: .* in a\.parquet, row 0"):
        shard(sources.config(FOLDER), sources.work)


def test_files_that_are_no_parquet(sources: Any) -> None:
    path = sources.root / "rows.parquet"
    with pytest.raises(AnnotationError, match=r"no captions file .*rows\.parquet"):
        shard(sources.config(BYTES), sources.work)
    path.write_text("image,caption\n")
    with pytest.raises(AnnotationError, match=r"rows\.parquet is not a Parquet file"):
        shard(sources.config(BYTES), sources.work)
    write(path, embedded(sources, range(9)))
    os.truncate(path, path.stat().st_size - 9)
    with pytest.raises(
        AnnotationError, match=r"rows\.parquet is not a Parquet file, or not a whole"
    ):
        shard(sources.config(BYTES), sources.work)
    (sources.root / "data").mkdir()
    with pytest.raises(AnnotationError, match=r"no Parquet file in .*data"):
        shard(sources.config(FOLDER), sources.work)


@pytest.mark.parametrize("column", ["image.bytes", "captions.list.element"])
def test_damaged_pages_are_named(sources: Any, column: str) -> None:
    path = write(sources.root / "rows.parquet", embedded(sources, range(9)), compression="snappy")
    group = pq.ParquetFile(path).metadata.row_group(1)
    chunk = next(
        group.column(n)
        for n in range(group.num_columns)
        if group.column(n).path_in_schema == column
    )
    data = bytearray(path.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    with pytest.raises(AnnotationError, match=r"rows\.parquet, rows 3 to 5: damaged"):
        shard(sources.config(BYTES), sources.work)


def test_columns_are_of_parquet_alone(sources: Any) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError, match="columns"):
        sources.config({"kind": "csv", "annotations": "a.csv", "columns": {"image": "x"}})
    with pytest.raises((ConfigError, ValidationError), match="imag"):
        sources.config({**BYTES, "columns": {"imag": "x"}})
