"""A disk that is full stops a run cleanly, and a run with room again finishes the same table."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from flows import cli, direct
from pipeline import storage
from pipeline.caption import caption, verify
from pipeline.config import CaptionConfig

Parts = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_small_disk_keeps_whole_parts_and_the_rest_fits_when_there_is_room(
    small_disk: Path, folder: Path, tmp_path: Path, picture: Callable[..., bytes], stub: Any,
    parts: Parts,
) -> None:  # fmt: skip
    for number in range(40):
        (folder / f"more-{number}.png").write_bytes(picture(number, "PNG"))
    config = CaptionConfig(unit_size=5, batch_size=3)
    caption(config, [folder], tmp_path / "whole", stub())
    whole, table = parts(tmp_path / "whole"), small_disk / "table"
    with pytest.raises(OSError, match="No space left") as caught:
        caption(config, [folder], table, stub())
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value.filename).startswith(str(table))
    found = parts(table)
    assert 0 < len(found) < len(whole)
    assert all(whole[name] == content for name, content in found.items())
    assert not list(table.rglob(f"{storage.TEMPORARY}*"))
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    report = caption(config, [folder], table, stub())
    assert report.units_reused >= len(found) - 1
    assert parts(table) == whole
    assert verify(table).captioned == 50


def test_full_at_any_commit_leaves_nothing_half_written(
    folder: Path, tmp_path: Path, stub: Any, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CaptionConfig(unit_size=5, batch_size=3)
    caption(config, [folder], tmp_path / "whole", stub())
    whole, fsync = parts(tmp_path / "whole"), os.fsync
    for number in range(100):
        table, left = tmp_path / f"t-{number}", number

        def full(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            try:
                caption(config, [folder], table, stub())
                break
            except OSError as error:
                assert error.errno == errno.ENOSPC
        assert not list(table.rglob(f"{storage.TEMPORARY}*"))
        assert all(whole[name] == content for name, content in parts(table).items())
        caption(config, [folder], table, stub())
        assert parts(table) == whole
    # A file and its directory each: table, recipe, plan, two parts, two receipts, report.
    assert number == 16


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_the_command_says_what_is_full_and_that_it_goes_on(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), "captions/part-0000001.parquet")

    (tmp_path / "photos").mkdir()
    monkeypatch.setattr(direct, "caption_archives", full)
    arguments = ["caption", str(tmp_path / "photos"), "--table", str(tmp_path / "t")]
    ended = CliRunner().invoke(cli.main, arguments)
    assert ended.exit_code == 2
    assert ended.stderr == (
        f"error: captions/part-0000001.parquet: {os.strerror(code)};"
        " make room and run the same command again to go on\n"
    )
