"""What the commands say that are given something else than a caption table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from pipeline.caption import caption
from pipeline.config import CaptionConfig

COMMANDS = {
    "verify": ["verify", "TABLE"],
    "stale": ["stale", "TABLE"],
    "compact": ["compact", "TABLE", "--to", "OUT"],
    "export": ["export", "TABLE", "--to", "csv"],
    "rollback": ["caption", "--table", "TABLE", "--rollback"],
}

Run = Callable[[object], Result]


@pytest.fixture(params=COMMANDS.values(), ids=COMMANDS.keys())
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    def run(table: object) -> Result:
        places = {"TABLE": str(table), "OUT": str(tmp_path / "out")}
        return CliRunner().invoke(main, [places.get(word, word) for word in request.param])

    return run


def told(result: Result, code: int = 5) -> str:
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_nothing_there(run: Run, tmp_path: Path) -> None:
    assert told(run(tmp_path / "captoins")) == (
        f"error: {tmp_path}/captoins is not a caption table: there is nothing of that name;"
        f" `captionmill caption ARCHIVE... --table {tmp_path}/captoins` makes one"
    )
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is not a caption table: it is empty; `captionmill caption" in told(
        run(tmp_path / "empty")
    )
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_directory_of_something_else(run: Run, folder: Path) -> None:
    assert told(run(folder)).endswith(
        "photos is not a caption table: it holds 00.jpg, 03.jpg, 06.jpg, ...;"
        " give the directory that holds _table.json"
    )


def test_a_directory_of_tables(
    run: Run, folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any
) -> None:
    caption(config, [folder], tmp_path / "tables" / "one", stub())
    assert told(run(tmp_path / "tables")).endswith(
        f"is not a caption table: it holds one; give {tmp_path}/tables/one"
    )


def test_a_part(run: Run, folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any) -> None:
    caption(config, [folder], tmp_path / "one", stub())
    part = min((tmp_path / "one").glob("*.parquet"))
    assert told(run(part)).endswith(
        "is not a caption table but a file; give the directory that holds _table.json"
    )


def test_object_storage_without_the_extra(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.remote import s3

    s3._store.cache_clear()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert told(run("s3://bucket/captions"), code=2) == (
        "error: s3:// needs s3fs, which is not installed; pip install 'captionmill[s3]'"
    )


def test_a_url_of_another_kind(run: Run) -> None:
    assert "URLs of this kind are not read" in told(run("gs://bucket/captions"), code=2)


def test_a_prefix_without_a_table(run: Run, bucket: Any) -> None:
    (bucket / "photos/a.jpg").write_bytes(b"x")
    assert told(run(bucket / "photos")).endswith(
        "is not a caption table: it holds a.jpg; give the directory that holds _table.json"
    )
    assert "there is nothing of that name" in told(run(bucket / "captoins"))
