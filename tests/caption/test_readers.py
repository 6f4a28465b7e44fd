"""DuckDB, Polars and pandas over the plain glob, while a run is going on."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pytest

from pipeline.caption import caption
from pipeline.config import CaptionConfig

CONFIG = CaptionConfig(unit_size=2, batch_size=2)
LIMIT = 60.0
"""Seconds a slow machine may take to read often enough."""

Seen = dict[str, list[list[str]]]


@contextlib.contextmanager
def reading(table: Path) -> Iterator[Seen]:
    """Read the members of the table again and again, by each library in a thread of its own."""
    pattern = str(table / "*.parquet")
    readers: dict[str, Callable[[], Any]] = {
        "duckdb": lambda: [
            row[0] for row in duckdb.connect().execute(f"SELECT member FROM '{pattern}'").fetchall()
        ],
        "polars": lambda: list(pl.scan_parquet(pattern).select("member").collect()["member"]),
        "pandas": lambda: list(pd.read_parquet(table, columns=["member"])["member"]),
    }
    seen: Seen = {name: [] for name in readers}
    wrong: list[Exception] = []
    over = threading.Event()

    def watch(name: str) -> None:
        try:
            while not over.is_set():
                if any(table.glob("*.parquet")):
                    seen[name].append(sorted(readers[name]()))
        except Exception as error:  # noqa: BLE001  raised below
            wrong.append(error)

    threads = [threading.Thread(target=watch, args=(name,)) for name in readers]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong


def often(seen: Seen, times: int, began: float) -> bool:
    enough = min(len(found) for found in seen.values()) >= times
    return enough or time.monotonic() - began > LIMIT


@pytest.fixture
def expected(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))


def test_while_rows_are_replaced_every_key_is_there_once(
    folder: Path, tmp_path: Path, stub: Any, picture: Callable[..., bytes], expected: list[str]
) -> None:
    table = tmp_path / "t"
    caption(CONFIG, [folder], table, stub())
    began, version = time.monotonic(), 0
    with reading(table) as seen:
        while version < 6 or not often(seen, 3, began):
            version += 1
            (folder / "00.jpg").write_bytes(picture(version) + b"x" * version)
            caption(CONFIG, [folder], table, stub(fingerprint=str(version)), refresh=True)
    for name, times in seen.items():
        assert len(times) >= 3, name
        assert all(found == expected for found in times), name


def test_while_the_first_run_goes_on_whole_parts_are_seen_alone(
    folder: Path, tmp_path: Path, stub: Any, expected: list[str]
) -> None:
    table = tmp_path / "t"
    began = time.monotonic()
    captioner = stub()
    inner = captioner.caption_pixels
    with reading(table) as seen:

        def caption_pixels(*arguments: Any, **more: Any) -> Any:
            # The next unit is not begun before everyone has read what is there.
            before = {name: len(times) for name, times in seen.items()}
            parts = any(table.glob("*.parquet"))
            while parts and time.monotonic() - began < LIMIT:
                if all(len(seen[name]) > number for name, number in before.items()):
                    break
                time.sleep(0.01)
            return inner(*arguments, **more)

        captioner.caption_pixels = caption_pixels
        caption(CONFIG, [folder], table, captioner)
    for name, times in seen.items():
        assert len({len(found) for found in times}) >= 3, name
        for found in times:
            assert len(found) % 2 == 0
            assert len(set(found)) == len(found)
            assert set(found) <= set(expected)
