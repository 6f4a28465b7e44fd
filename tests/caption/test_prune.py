"""A vanished disk prunes nothing; an archive that is really gone is pruned when somebody says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import caption, compact, verify
from pipeline.config import CaptionConfig
from pipeline.errors import ArchiveError, TableError

Rows = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture
def table(folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any) -> Path:
    caption(config, [folder], tmp_path / "t", stub())
    return tmp_path / "t"


def test_most_of_an_archive_is_not_pruned_without_being_told(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, parts: Any, rows: Rows
) -> None:
    before = parts(table)
    shutil.rmtree(folder / "b")  # as where another disk was mounted
    with pytest.raises(TableError, match=r"would remove 6 of the 10 rows of photos .*--prune-all"):
        caption(config, [folder], table, stub(), prune=True)
    assert parts(table) == before
    assert not (table / "_changes").exists()
    assert caption(config, [folder], table, stub()).deleted == 6
    with pytest.raises(TableError, match="would remove 6 of the 10 rows"):
        caption(config, [folder], table, stub(), prune=True)
    assert caption(config, [folder], table, stub(), prune_all=True).discovered == 4
    assert len(rows(table)) == 4
    assert verify(table).discovered == 4


def test_half_of_an_archive_is_pruned(
    folder: Path, table: Path, config: CaptionConfig, stub: Any
) -> None:
    for path in sorted(folder.rglob("*.jpg"))[:5]:
        path.unlink()
    assert caption(config, [folder], table, stub(), prune=True).discovered == 5


def test_each_archive_counts_for_itself(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, tmp_path: Path,
    picture: Callable[..., bytes],
) -> None:  # fmt: skip
    other = tmp_path / "other"
    other.mkdir()
    for number in range(3):
        (other / f"{number}.jpg").write_bytes(picture(60 + number))
    caption(config, [folder, other], table, stub())
    for number in range(2):
        (other / f"{number}.jpg").unlink()
    with pytest.raises(TableError, match="would remove 2 of the 3 rows of other"):
        caption(config, [folder, other], table, stub(), prune=True)
    assert caption(config, [folder], table, stub(), prune=True).discovered == 13


@pytest.mark.parametrize("left", ["an empty folder", "notes", "nothing"])
def test_an_archive_without_a_picture_is_pruned_when_somebody_says_so(
    folder: Path, table: Path, config: CaptionConfig, stub: Any, parts: Any, rows: Rows, left: str,
    tmp_path: Path, picture: Callable[..., bytes],
) -> None:  # fmt: skip
    before = parts(table)
    shutil.rmtree(folder)
    if left != "nothing":
        folder.mkdir()
    if left == "notes":
        (folder / "notes.txt").touch()
    told = "no archive at" if left == "nothing" else "is its disk mounted.*--prune-all"
    for prune in (False, True):
        with pytest.raises(ArchiveError, match=told):
            caption(config, [folder], table, stub(), prune=prune)
    assert parts(table) == before
    found = caption(config, [folder], table, stub(), prune_all=True)
    skipped = {"other_file_type": 1} if left == "notes" else {}
    assert (found.discovered, found.skipped) == (len(skipped), skipped)
    assert len(rows(table)) == len(skipped)
    assert verify(table).discovered == len(skipped)
    compact(table, tmp_path / "large")
    folder.mkdir(exist_ok=True)
    (folder / "new.jpg").write_bytes(picture(5))
    assert caption(config, [folder], table, stub()).captioned == 1


def test_a_tar_that_is_gone_is_pruned_and_an_unknown_one_refused(
    tmp_path: Path, config: CaptionConfig, stub: Any, picture: Callable[..., bytes], make_tar: Any
) -> None:
    tar = make_tar(tmp_path / "a.tar", [(f"{n}.jpg", picture(n)) for n in range(3)])
    kept = make_tar(tmp_path / "b.tar", [(f"{n}.jpg", picture(n)) for n in range(2)])
    caption(config, [tar, kept], tmp_path / "t", stub())
    tar.unlink()
    with pytest.raises(ArchiveError, match="no archive at"):
        caption(config, [tmp_path / "c.tar"], tmp_path / "t", stub(), prune_all=True)
    assert caption(config, [tar, kept], tmp_path / "t", stub(), prune_all=True).discovered == 2
    verify(tmp_path / "t")
