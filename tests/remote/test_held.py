"""Blocks that are held while streams are read front to back."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.errors import StorageError
from pipeline.remote import held, s3
from pipeline.remote.held import HeldBlocks


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(held, "BLOCK", 1000)
    found, get_all = [], s3.get_all
    monkeypatch.setattr(s3, "get_all", lambda asks: found.extend(asks) or get_all(asks))
    return found


def test_blocks_are_fetched_once_by_few_requests(bucket, asked):
    content = {name: os.urandom(10_500) for name in ("a", "b")}
    for name, data in content.items():
        (bucket / name).write_bytes(data)
    blocks = HeldBlocks(100)
    spans = {"a": [(0, 10), (995, 1005), (2500, 4100), (10_400, 11_000)], "b": [(5, 5), (0, 3000)]}
    for _ in range(2):
        views = blocks.fetch({bucket / name: found for name, found in spans.items()})
        for name, found in spans.items():
            for start, stop in found:
                assert views[bucket / name].read(stop - start, start) == content[name][start:stop]
    assert [(ask.key, ask.span) for ask in asked] == [
        *(("a", (0, 5000)), ("a", (10_000, 11_000)), ("b", (0, 3000)))
    ]


def test_many_threads_and_little_room(bucket, asked):
    content = os.urandom(30_000)
    (bucket / "x").write_bytes(content)
    blocks = HeldBlocks(4)

    def read(start: int) -> bytes:
        return blocks.fetch({bucket / "x": [(start, start + 700)]})[bucket / "x"].read(700, start)

    starts = [number * 700 % 29_000 for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, starts)) == [content[start : start + 700] for start in starts]
    assert len(blocks._held) <= 4


def test_what_could_not_be_fetched_is_asked_for_again(bucket, asked, monkeypatch):
    (bucket / "x").write_bytes(b"content")
    blocks = HeldBlocks(4)
    with monkeypatch.context() as patch:
        patch.setattr(s3, "_run", lambda _: (_ for _ in ()).throw(StorageError("gone")))
        with pytest.raises(StorageError):
            blocks.fetch({bucket / "x": [(0, 7)]})
    assert blocks.fetch({bucket / "x": [(0, 7)]})[bucket / "x"].read(7, 0) == b"content"
