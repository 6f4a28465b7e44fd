"""Some captions of a table, of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.caption import caption
from pipeline.caption.sample import sample
from pipeline.config import CaptionConfig


def test_captioned_rows_alone_spread_over_the_table(
    folder: Path, tmp_path: Path, stub: Any, by_member: Any
) -> None:
    (folder / "bad.jpg").write_bytes(b"")
    caption(CaptionConfig(unit_size=2, batch_size=2), [folder], tmp_path / "t", stub())
    found = sample(tmp_path / "t", 6)
    rows = by_member(tmp_path / "t")
    assert 4 <= len({one.member for one in found}) <= 6
    assert {one.member for one in found} != set(sorted(rows)[: len(found)])
    for one in found:
        assert (one.caption, one.score) == (rows[one.member]["caption"], rows[one.member]["score"])
    assert found == sample(tmp_path / "t", 6)


def test_of_a_table_without_captions_there_are_none(tmp_path: Path, stub: Any) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"")
    caption(CaptionConfig(), [tmp_path / "photos"], tmp_path / "t", stub())
    assert sample(tmp_path / "t") == []
