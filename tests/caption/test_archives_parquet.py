"""Parquet archives: columns of bytes or paths, names, meta, and what is wrong with cells."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.caption import parquet_pages
from pipeline.caption.archives import Reading, open_archive, open_archives
from pipeline.errors import ArchiveError, ImageError

MOST = 1 << 20


def write(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def contents(path: Path, **reading: str) -> dict[str, Any]:
    """Name -> bytes, or the code of why there are none."""
    archive = open_archive(path, reading=Reading(**reading))
    found: dict[str, Any] = {}
    for member in archive.members():
        try:
            found[member.name] = member.reason or member.code or archive.read(member, MOST)
        except ImageError as error:
            found[member.name] = error.code
    archive.close()
    return found


def test_bytes_with_names_and_meta_across_row_groups(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        {
            "id": list(range(7)),
            "image": [b"%d" % n for n in range(7)],
            "when": pa.array([datetime.datetime(2020, 1, 2)] * 7, pa.timestamp("ns")),
            "scores": [[0.5, float("nan")]] * 7,
            "thumbnail": pa.array([b"123"] * 7, pa.binary(3)),
        },
        row_group_size=3,
    )
    archive = open_archive(path)
    members = list(archive.members())
    assert [(m.name, m.offset) for m in members] == [(str(n), n) for n in range(7)]
    for member in members:
        assert archive.read(member, MOST) == member.name.encode()
        assert json.loads(archive.meta(member) or "") == {
            "id": int(member.name),
            "when": "2020-01-02 00:00:00.000000000",
            "scores": [0.5, None],
        }
    assert archive.read(members[1], MOST) == b"1"
    assert archive.read(members[6], MOST) == b"6"


def test_the_structure_that_datasets_writes(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"from disk")
    images = [
        {"bytes": b"first", "path": "a.jpg"},
        {"bytes": None, "path": "b.jpg"},
        {"bytes": None, "path": None},
        None,
    ]
    path = write(tmp_path / "a.parquet", {"label": [1, 2, 3, 4], "image": images})
    assert contents(path) == {
        "a.jpg": b"first",
        "b.jpg": b"from disk",
        "row-000000002": "null_cell",
        "row-000000003": "null_cell",
    }


def test_a_column_of_paths(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_bytes(b"a")
    (tmp_path / "b.jpg").write_bytes(b"b")
    paths = [
        "sub/a.jpg",
        str(tmp_path / "b.jpg"),
        None,
        "gone.jpg",
        "note.txt",
        "sub",
        "s/../b.jpg",
    ]
    path = write(tmp_path / "a.parquet", {"file_name": paths, "n": list(range(7))})
    archive = open_archive(path)
    (first, *_) = archive.members()
    assert (first.size, archive.meta(first)) == (1, '{"n":0}')
    assert contents(path) == {
        "sub/a.jpg": b"a",
        str(tmp_path / "b.jpg"): b"b",
        "row-000000002": "null_cell",
        "gone.jpg": "unreadable_file",
        "note.txt": "other_file_type",
        "sub": "not_a_regular_file",
        "s/../b.jpg": b"b",
    }
    confined = contents(path, root=str(tmp_path / "sub"))
    assert confined[str(tmp_path / "b.jpg")] == "outside_root"
    assert confined["sub/a.jpg"] == "unreadable_file"


def test_rows_without_a_name_have_their_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"jpg": [b"x", b"y", None], "n": [1.5, 2.5, 3.5]})
    assert contents(path) == {
        "row-000000000": b"x",
        "row-000000001": b"y",
        "row-000000002": "null_cell",
    }
    named = write(
        tmp_path / "b.parquet", {"jpg": [b"x", b"y", b"z"], "key": ["same", "same", "k" * 70_000]}
    )
    assert [(m.name, m.occurrence) for m in open_archive(named).members()] == [
        ("same", 0),
        ("same", 1),
        ("row-000000002", 0),
    ]


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"a": [b"1"], "b": [b"2"], "c": ["n"], "d": [{"e": b"3"}]})
    with pytest.raises(ArchiveError, match=r"no column of pictures.*a: binary.*image_column"):
        open_archive(path)
    assert contents(path, image_column="b", name_column="c") == {"n": b"2"}
    assert contents(path, image_column="d.e") == {"row-000000000": b"3"}
    with pytest.raises(ArchiveError, match="no column 'z' of bytes or texts"):
        open_archive(path, reading=Reading(image_column="z"))
    with pytest.raises(ArchiveError, match="no column 'a' of texts or whole numbers"):
        open_archive(path, reading=Reading(image_column="b", name_column="a"))


@pytest.mark.parametrize(
    "columns",
    [{"image": [1, 2]}, {"image": [[b"x"]]}, {"label": [1.5]}, {}],
    ids=["numbers", "lists", "none", "empty"],
)
def test_other_types_are_an_error_that_lists_the_columns(
    tmp_path: Path, columns: dict[str, Any]
) -> None:
    with pytest.raises(ArchiveError, match="no column of pictures or paths"):
        open_archive(write(tmp_path / "a.parquet", columns))


def test_all_types_of_bytes_and_texts_are_read(tmp_path: Path) -> None:
    for number, kind in enumerate(
        (pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary()))
    ):
        image = pa.array([b"x", b"y"], pa.binary()).cast(kind)
        key = pa.array(["a", "b"]).dictionary_encode()
        path = write(tmp_path / f"{number}.parquet", {"image": image, "key": key})
        assert contents(path) == {"a": b"x", "b": b"y"}


def test_cells_larger_than_the_caps_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = b"\0" * (MOST + 1)
    columns = {"image": [b"x", large, b"z"], "note": ["n", "m" * 2_000_000, None]}
    path = write(tmp_path / "a.parquet", columns, compression="zstd", use_dictionary=False)
    assert list(contents(path).values()) == [b"x", "too_many_bytes", b"z"]
    archive = open_archive(path)
    assert [archive.meta(m) for m in archive.members()] == [
        '{"note":"n"}',
        '{"note":{"error":"too_many_bytes"}}',
        '{"note":null}',
    ]
    monkeypatch.setattr(parquet_pages, "MOST_UNPACKED", 1 << 20)
    assert list(contents(path).values()) == ["unreadable_member"] * 3


def test_a_damaged_page_fails_its_row_group_and_no_other(tmp_path: Path) -> None:
    columns = {"image": [bytes([n]) * 1000 for n in range(9)]}
    path = write(
        tmp_path / "a.parquet",
        columns,
        row_group_size=3,
        write_page_checksum=True,
        compression="none",
        use_dictionary=False,
    )
    content = bytearray(path.read_bytes())
    content[content.index(b"\4" * 100)] ^= 0xFF
    path.write_bytes(content)
    found = list(contents(path).values())
    assert found[:3] == columns["image"][:3] and found[6:] == columns["image"][6:]
    assert found[3:6] == ["unreadable_member"] * 3


def test_a_file_cut_short_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", {"image": [b"x" * 1000]})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArchiveError, match="not a Parquet file that can be read"):
        open_archive(path)
    (tmp_path / "b.parquet").write_bytes(b"something else")
    with pytest.raises(ArchiveError, match="not a Parquet file that can be read"):
        open_archives([tmp_path / "b.parquet"])
