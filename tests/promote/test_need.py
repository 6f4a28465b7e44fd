"""Why a retraining runs, what it starts from, and drift."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_registry import candidate, decided, make_shards, said, settings, write_pictures

from pipeline import storage
from pipeline.config import Config
from pipeline.config_retrain import DriftConfig
from pipeline.errors import TableError
from pipeline.metrics import References
from pipeline.promote.drift import caption_drift, drifted, word_drift
from pipeline.promote.need import Reason, end_attempt, of_attempt, reasons, with_start
from pipeline.records import ShardSet
from pipeline.shards import ShardReader
from pipeline.tracking import Tracker


def with_words(work: Path, shard_set: ShardSet, name: str, right: float) -> None:
    """A decided version that carries the words of its training captions."""
    captions = ShardReader(shard_set, "train").captions()
    made, _ = candidate(work, shard_set, name, said(shard_set, right))
    References(captions).document_frequencies.save(Path(made.path) / "document_frequencies.parquet")
    decided(work, shard_set, name, right)


def words(config: Config, work: Path, shard_set: ShardSet, done: bool = False) -> list[str]:
    return [one.word for one in reasons(config, work, shard_set, done=done, tables=[])]


def test_first_nothing_new_new_settings_and_new_shards(
    work: Path, shard_set: ShardSet, shards_once: Path
) -> None:
    assert words(Config(), work, shard_set) == ["first"]
    with_words(work, shard_set, "a", 0.5)
    assert words(Config(), work, shard_set, done=True) == ["nothing-new"]
    assert words(Config(), work, shard_set) == ["new-settings"]
    pictures = Path(shutil.copytree(shards_once / "pictures", work.parent / "pictures"))
    write_pictures(pictures, images=10, first=80)
    grown = make_shards(pictures, work)
    (found,) = reasons(
        Config.model_validate({"retrain": {"drift": {"max_unknown_words": 0.5}}}),
        work,
        grown,
        done=False,
        tables=[],
    )
    assert found.word == "new-shards"
    assert found.sentence == "training pictures: 50, +10 since captioner/1"


def test_an_attempt_that_was_killed_keeps_the_reasons_it_began_with(work: Path) -> None:
    began = [Reason(word="new-shards", sentence="100 new pictures")]
    now = [Reason(word="nothing-new", sentence="nothing new")]
    assert of_attempt(work, "key", now, done=True) == now
    assert of_attempt(work, "key", began, done=False) == began
    assert of_attempt(work, "key", now, done=True) == began
    assert of_attempt(work, "other", now, done=True) == now
    end_attempt(work, "key")
    assert of_attempt(work, "key", now, done=True) == now


def test_words_that_the_champion_never_learned_are_drift(
    work: Path, shard_set: ShardSet, shards_once: Path
) -> None:
    with_words(work, shard_set, "a", 0.5)
    champion = Tracker(work).versions("captioner")[0]
    assert word_drift(DriftConfig(), champion, shard_set) is None  # no new pictures
    pictures = Path(shutil.copytree(shards_once / "pictures", work.parent / "pictures"))
    write_pictures(pictures, images=10, first=80)
    grown = make_shards(pictures, work)
    sign = word_drift(DriftConfig(), champion, grown)
    # One word of eight, the picture's number, is new.
    assert sign is not None and sign.drifted and sign.value == pytest.approx(1 / 8)
    assert sign.sentence == (
        "12.5% of the words in the captions of 10 new pictures are unknown to captioner/1 (at most "
        "5.0%)"
    )
    assert words(Config(), work, grown) == ["drift", "new-shards"]


def table_of(folder: Path, captions: list[str], score: float, version: str = "1") -> Path:
    folder.mkdir()
    storage.commit_json(folder / "_table.json", {})
    count = len(captions)
    rows = {
        "model_name": ["captioner"] * count,
        "model_version": [version] * count,
        "status": ["captioned"] * count,
        "caption": captions,
        "score": [score] * count,
    }
    pq.write_table(pa.table(rows), folder / "part-1.parquet")
    return folder


def test_bulk_runs_are_held_against_the_champions_own_evaluation(
    work: Path, shard_set: ShardSet, tmp_path: Path
) -> None:
    decided(work, shard_set, "a", 0.5)
    champion = Tracker(work).versions("captioner")[0]
    same = said(shard_set, 0.5)

    def signs(folder: str, captions: list[str], score: float) -> list[str]:
        table = table_of(tmp_path / folder, captions, score)
        return [one.name for one in drifted(caption_drift(DriftConfig(), champion, table))]

    assert signs("alike", same, -0.1) == []
    assert signs("unsure", same, -0.9) == ["confidence"]
    assert signs("terse", ["a dog"] * 40, 0.0) == ["length", "vocabulary"]
    assert signs("few", same[:8], 0.0) == []
    others = table_of(tmp_path / "others", ["a dog"] * 40, -9.0, version="2")
    assert caption_drift(DriftConfig(), champion, others) == []
    with pytest.raises(TableError, match="not a caption table"):
        caption_drift(DriftConfig(), champion, tmp_path)
    found = reasons(
        Config(), work, shard_set, done=True, tables=[tmp_path / "unsure", tmp_path / "alike"]
    )
    assert [one.word for one in found] == ["nothing-new", "drift"]
    assert "it takes captions of such pictures" in found[0].sentence
    assert "mean token log-probability in unsure is -0.90" in found[1].sentence


def test_a_training_starts_from_the_champion_of_its_first_attempt(
    work: Path, shard_set: ShardSet
) -> None:
    warm = Config.model_validate({"retrain": {"start": "champion"}})
    assert with_start(Config(), work, "k") == Config()
    assert with_start(warm, work, "none yet").train.start is None
    decided(work, shard_set, "a", 0.5)
    first = Tracker(work).versions("captioner")[0]
    assert with_start(warm, work, "k").train.start == str(first.directory)
    decided(work, shard_set, "b", 0.9)
    # The same settings and data again: from where they began, so that all is recognised.
    assert with_start(warm, work, "k").train.start == str(first.directory)
    assert with_start(warm, work, "none yet").train.start is None
    second = Tracker(work).versions("captioner")[1]
    assert with_start(warm, work, "new data").train.start == str(second.directory)
    # Its files removed by `captionmill gc`: the present champion takes its place.
    shutil.rmtree(first.root / "artifacts")
    assert with_start(warm, work, "k").train.start == str(second.directory)
    given = warm.model_copy(update={"train": warm.train.model_copy(update={"start": "mine"})})
    assert with_start(given, work, "k") == given
    assert settings().retrain.start == "fresh"
