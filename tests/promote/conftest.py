from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_registry import make_shards, write_pictures

from pipeline.promote import judging
from pipeline.records import ShardSet


@pytest.fixture(scope="session")
def shards_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work directory with the shards alone; the tests copy it."""
    place = tmp_path_factory.mktemp("promote")
    (place / "pictures").mkdir()
    write_pictures(place / "pictures")
    make_shards(place / "pictures", place / "work")
    return place


@pytest.fixture
def shard_set(work: Path, shards_once: Path, monkeypatch: pytest.MonkeyPatch) -> ShardSet:
    """Shards of 40 training and 40 evaluation pictures in the test's work directory."""
    monkeypatch.setattr(judging, "measure", judging.measure)  # put back after the test
    shutil.copytree(shards_once / "work" / "shard", work / "shard")
    return make_shards(shards_once / "pictures", work)
