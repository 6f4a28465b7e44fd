"""The later life of a table on object storage: stale, refresh, rollback, compact, as on disk."""

from __future__ import annotations

import functools
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline import storage
from pipeline.caption import caption, compact, rollback, staleness, verify
from pipeline.caption.export import export
from pipeline.caption.recipe import describe
from pipeline.config import CaptionConfig
from pipeline.errors import ArchiveError, StorageError, TableError
from pipeline.remote import RemotePath, s3

NEW = {"fingerprint": "newer", "model_version": "4"}


def on_store(table: RemotePath) -> dict[str, bytes]:
    start = len((table / "").key)
    found = {path.key[start:]: path.read_bytes() for path, _ in table.entries(below=True)}
    return {name: content for name, content in found.items() if name != "_report.json"}


def on_disk(table: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(table)): path.read_bytes()
        for path in table.rglob("*")
        if path.is_file() and path.name not in ("_report.json", ".lock")
    }


@pytest.fixture
def both(
    folder: Path, bucket: RemotePath, tmp_path: Path, config: CaptionConfig, stub: Any
) -> tuple[RemotePath, Path]:
    """The same table there and here."""
    for place in (bucket / "t", tmp_path / "t"):
        caption(config, [folder], place, stub())
    return bucket / "t", tmp_path / "t"


def test_stale_refresh_and_rollback(
    both: tuple[RemotePath, Path], folder: Path, config: CaptionConfig, stub: Any,
    picture: Callable[..., bytes],
) -> None:  # fmt: skip
    there, here = both
    target = describe(config, stub(**NEW))
    before = on_store(there)
    for place in both:
        found = staleness(place, target)
        assert (found.rows, found.unfinished) == (10, 0)
        assert found.hours is not None
    for place in both:
        assert caption(config, [folder], place, stub(**NEW), refresh=True).stale == 0
        assert staleness(place, target).rows == 0
    assert on_store(there) == on_disk(here) != before
    (folder / "00.jpg").write_bytes(picture(70))
    for place in both:
        caption(config, [folder], place, stub(**NEW))
        assert rollback(place).stale == 1
        verify(place)
    assert on_store(there) == on_disk(here)
    for place in both:
        with pytest.raises(TableError, match="no refresh to roll back"):
            rollback(place)


def test_export_and_verify(both: tuple[RemotePath, Path]) -> None:
    told = []
    for place in both:
        file = io.BytesIO()
        assert export(place, file, "csv", ["member", "caption"]) == (10, 0)
        told.append(file.getvalue())
    assert told[0] == told[1]
    there = both[0]
    receipt = next((there / "_receipts").glob("*.json"))
    receipt.write_bytes(receipt.read_bytes().replace(b'"captioned": 4', b'"captioned": 3'))
    with pytest.raises(TableError, match="counts otherwise than its receipt"):
        verify(there)
    plan = next((there / "_plan").glob("*.parquet"))
    plan.write_bytes(plan.read_bytes().replace(b"photos", b"photo5"))
    with pytest.raises(TableError, match=f"{plan.name} is damaged"):
        verify(there)


def test_a_prefix_that_was_emptied_prunes_nothing_until_somebody_says_so(
    bucket: RemotePath, config: CaptionConfig, stub: Any, picture: Callable[..., bytes]
) -> None:
    for number in range(3):
        (bucket / f"photos/{number}.jpg").write_bytes(picture(number))
    caption(config, [bucket / "photos"], bucket / "t", stub())
    for number in range(3):
        (bucket / f"photos/{number}.jpg").unlink()
    with pytest.raises(ArchiveError):
        caption(config, [bucket / "photos"], bucket / "t", stub(), prune=True)
    found = caption(config, [bucket / "photos"], bucket / "t", stub(), prune_all=True)
    assert found.discovered == 0
    assert verify(bucket / "t").discovered == 0


@pytest.mark.parametrize("what", ["refresh", "rollback", "compact", "prune"])
def test_a_store_that_fails_at_any_request_costs_nothing_but_another_run(
    both: tuple[RemotePath, Path], folder: Path, config: CaptionConfig, stub: Any, what: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    there, here = both
    if what == "rollback":
        for place in both:
            caption(config, [folder], place, stub(**NEW), refresh=True)
    if what == "prune":
        (folder / "00.jpg").unlink()

    def step(place: Any) -> None:
        if what == "refresh":
            caption(config, [folder], place, stub(**NEW), refresh=True)
        elif what == "rollback":
            rollback(place)
        elif what == "compact":
            compact(place, place.with_name("large"), rows=7)
        else:
            caption(config, [folder], place, stub(**NEW), prune=True)

    step(here)
    target = there.with_name("large") if what == "compact" else there
    run, failures = s3._run, 0
    for limit in range(3, 400, 11):
        left = limit

        def failing(asked: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise StorageError("the store cannot be reached")
            return run(asked)

        with monkeypatch.context() as patch:
            patch.setattr(s3, "_run", failing)
            try:
                step(there)
                break
            except StorageError:
                failures += 1
        # Its process is alive, so that its lock would be waited for.
        storage.break_lock(target)
    storage.break_lock(target)
    assert failures > 3
    assert on_store(target) == on_disk(here.with_name("large") if what == "compact" else here)
    verify(target)


@pytest.mark.slow
def test_killed_at_any_object_the_next_run_ends_alike(
    folder: Path, bucket: RemotePath, tmp_path: Path, config: CaptionConfig, stub: Any
) -> None:
    script = Path(__file__).with_name("run_and_kill_on_store.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = functools.partial(subprocess.run, check=False, capture_output=True, text=True)
    done = run([sys.executable, script, "updates", folder, str(bucket / "t")], env=environment)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["kills"] >= told["wanted"], told
    config = config.model_copy(update={"unit_size": 5})
    here = tmp_path / "here"
    caption(config, [folder], here, stub())
    compact(here, tmp_path / "large", rows=7)
    wanted = {"compact": on_disk(tmp_path / "large")}
    caption(config, [folder], here, stub(**NEW), refresh=True)
    wanted["refresh"] = on_disk(here)
    rollback(here)
    wanted["rollback"] = on_disk(here)
    for what, names in told["tables"].items():
        assert names
        for name in names:
            table = bucket / "t" / (f"{name}-large" if what == "compact" else name)
            assert on_store(table) == wanted[what], table
            verify(table)
