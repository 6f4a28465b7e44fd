"""Archives that change while they are captioned: every planned member still ends as a row."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.caption import caption, verify
from pipeline.config import CaptionConfig

CONFIG = CaptionConfig(unit_size=10, batch_size=1)


@pytest.fixture
def vandal(stub: Any) -> Callable[[Callable[[], None]], Any]:
    """A captioner that does something else before its first caption."""

    def make(act: Callable[[], None]) -> Any:
        captioner = stub()
        plain, done = captioner.caption_pixels, []

        def caption_pixels(*args: Any, **options: Any) -> Any:
            if not done:
                done.append(act())
            return plain(*args, **options)

        captioner.caption_pixels = caption_pixels
        return captioner

    return make


def test_a_folder_whose_files_vanish_and_turn_into_other_things(
    tmp_path: Path, picture: Any, vandal: Any, by_member: Any
) -> None:
    root = tmp_path / "in"
    root.mkdir()
    (tmp_path / "secret.jpg").write_bytes(picture(99))
    for n in range(40):
        (root / f"{n:02d}.jpg").write_bytes(picture(n))

    def act() -> None:
        for n in range(30, 37):
            (root / f"{n}.jpg").unlink()
        (root / "31.jpg").symlink_to(tmp_path / "secret.jpg")
        os.mkfifo(root / "32.jpg")
        (root / "33.jpg").mkdir()
        (root / "34.jpg").write_bytes(picture(34)[:100])
        (root / "35.jpg").write_bytes(b"")
        (root / "36.jpg").write_bytes(picture(0))
        (root / "new.jpg").write_bytes(picture(50))

    report = caption(CONFIG, [root], tmp_path / "table", vandal(act))
    assert report.balanced() and verify(tmp_path / "table").discovered == 40
    found = by_member(tmp_path / "table")
    assert {f"{n}.jpg": found[f"{n}.jpg"]["error_code"] for n in range(30, 38)} == {
        **dict.fromkeys(("30.jpg", "31.jpg", "32.jpg", "33.jpg"), "unreadable_file"),
        "34.jpg": "truncated",
        "35.jpg": "zero_bytes",
        "36.jpg": None,
        "37.jpg": None,
    }
    # What is there now is what was captioned.
    assert found["36.jpg"]["sha256"] == found["00.jpg"]["sha256"]


def test_bytes_of_another_member_are_not_taken_for_a_picture_of_a_rewritten_tar(
    tmp_path: Path, picture: Any, make_tar: Any, vandal: Any
) -> None:
    path, other = tmp_path / "a.tar", tmp_path / "other.tar"
    members = [(f"{n:02d}.jpg", picture(n)) for n in range(60)]
    make_tar(path, members)
    # Every picture begins in the middle of the one that was before it, and so is no picture.
    make_tar(other, [("first.jpg", picture(1) + bytes(700)), *members])
    rewritten = other.read_bytes()
    report = caption(CONFIG, [path], tmp_path / "t", vandal(lambda: _overwrite(path, rewritten)))
    assert report.balanced() and 0 < report.captioned < 60
    assert set(report.failed) == {"unreadable_member"}


def _overwrite(path: Path, content: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(content)


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet"])
@pytest.mark.parametrize("how", ["cut", "overwritten"])
def test_a_file_that_is_cut_or_overwritten(
    tmp_path: Path, picture: Any, make_tar: Any, make_zip: Any, vandal: Any, kind: str, how: str
) -> None:
    members = [(f"{n:02d}.jpg", picture(n)) for n in range(60)]
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        columns = {"name": [n for n, _ in members], "image": [data for _, data in members]}
        pq.write_table(pa.table(columns), path, row_group_size=5)
    else:
        (make_tar if kind == "tar" else make_zip)(path, members)

    def act() -> None:
        size = path.stat().st_size
        with open(path, "r+b") as file:
            if how == "cut":
                file.truncate(size // 2)
            else:
                file.seek(size // 2)
                file.write(b"\7" * (size - size // 2))

    report = caption(CONFIG, [path], tmp_path / "table", vandal(act))
    assert report.balanced() and report.discovered == 60
    assert 0 < report.captioned < 60
    assert set(report.failed) <= {"unreadable_member", "not_an_image", "truncated", "corrupt"}
    assert sum(Counter(report.failed).values()) == 60 - report.captioned
