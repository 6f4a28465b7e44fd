"""The pinned evaluation set, guards on real figures, and input that cannot work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from small_registry import (
    candidate,
    decided,
    make_shards,
    measured,
    said,
    settings,
    write_pictures,
)

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import ConfigError, DataError
from pipeline.promote import judging, promote
from pipeline.promote.evaluation_set import present_set
from pipeline.records import ShardSet
from pipeline.tracking import Tracker


@pytest.fixture
def pictures(shards_once: Path, work: Path) -> Path:
    return Path(shutil.copytree(shards_once / "pictures", work.parent / "pictures"))


def test_a_split_that_grows_is_decided_on_the_pictures_it_was_pinned_to(
    work: Path, shard_set: ShardSet, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = decided(work, shard_set, "a", 0.5)
    assert first.evaluation_set is not None and first.evaluation_set.images == 40
    write_pictures(pictures, images=10, first=80)
    grown = make_shards(pictures, work)
    assert grown.samples == {"train": 50, "val": 50}
    captions = said(shard_set, 0.9)
    second = decided(work, grown, "b", 0.9, captions=captions)
    assert second.promoted and second.evaluation_set is not None
    assert second.evaluation_set.fingerprint == first.evaluation_set.fingerprint
    assert second.evaluation_set.images == 40
    assert "the 40 pictures of 'val' that it was pinned to" in capsys.readouterr().err


def test_the_set_changes_where_its_fingerprint_is_named(
    work: Path, shard_set: ShardSet, pictures: Path
) -> None:
    decided(work, shard_set, "a", 0.5)
    write_pictures(pictures, images=10, first=80)
    grown = make_shards(pictures, work)
    now = present_set(Config(), grown)
    with pytest.raises(ConfigError, match=f"the split 'val' is {now.fingerprint}"):
        decided(work, grown, "b", 0.9, settings(evaluation_set="0" * 16))
    champion = Tracker(work).versions("captioner")[0].directory / "captions.json"
    storage.commit_json(champion, {"captions": said(grown, 0.3), "seconds": 1.0, "unfinished": 0})
    new = decided(work, grown, "b", 0.9, settings(evaluation_set=now.fingerprint))
    assert new.promoted and new.evaluation_set is not None and new.evaluation_set.images == 50
    again = decided(work, grown, "c", 0.3)
    assert again.evaluation_set == new.evaluation_set


def test_a_pinned_set_that_is_gone_is_an_error(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    made = candidate(work, shard_set, "b", said(shard_set, 0.9))
    for tar in (work / "shard").rglob("val-*.tar"):
        tar.unlink()
    with pytest.raises(DataError, match=r"val-\S+\.tar"):
        promote(settings(), work, shard_set, *made)


def test_no_evaluation_set_is_an_error_that_names_the_splits(
    work: Path, shard_set: ShardSet
) -> None:
    made = candidate(work, shard_set, "a", said(shard_set, 0.5))
    other = Config.model_validate({"score": {"split": "test"}})
    with pytest.raises(DataError, match=r"no evaluation set: .*'test'; it has train \(40\), val"):
        promote(other, work, shard_set, *made)
    assert Tracker(work).versions("captioner") == []


def test_too_small_a_set_for_the_p_value_is_an_error(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    with pytest.raises(ConfigError, match="too small: 40 pictures"):
        decided(work, shard_set, "b", 0.9, settings(max_p_value=1e-13))
    with pytest.raises(ConfigError, match=r"promote\.resamples = 1,000"):
        decided(work, shard_set, "b", 0.9, settings(max_p_value=1e-4))


def test_a_training_set_with_evaluation_pictures_is_refused(
    work: Path, shard_set: ShardSet, pictures: Path
) -> None:
    decided(work, shard_set, "a", 0.5)
    rows = (pictures / "rows.jsonl").read_text()
    (pictures / "leaked.png").write_bytes((pictures / "1.png").read_bytes())
    row = '{"image": "leaked.png", "caption": "a dog", "split": "train", "place": "indoors"}\n'
    (pictures / "rows.jsonl").write_text(rows + row)
    leaking = make_shards(pictures, work)
    decision = decided(work, leaking, "b", 1.0, captions=said(shard_set, 1.0))
    assert not decision.promoted
    assert decision.reason == (
        "captioner/2 is refused, for evaluation pictures: 1 of the 40 pictures of 'val' are "
        "training pictures too (1.png)"
    )
    assert [guard.name for guard in decision.failed()] == ["evaluation pictures"]
    assert Tracker(work).aliases("captioner") == {"champion": 1, "challenger": 2}


def test_other_metrics_than_the_champions_are_an_error_until_somebody_agrees(
    work: Path, shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(work, shard_set, "a", 0.5)
    monkeypatch.setattr("pipeline.metrics.ptb.VERSION", 99)
    with pytest.raises(
        ConfigError, match=r"champion captioner/1 was scored with .*now it would be tok:ptb99"
    ):
        decided(work, shard_set, "b", 0.9)
    assert decided(work, shard_set, "b", 0.9, settings(new_signature=True)).promoted


@pytest.mark.parametrize(
    ("trouble", "guard"),
    [
        ({"seconds": 10.0}, "speed"),
        ({"unfinished": 30}, "unfinished"),
        ({"suffix": " dog dog"}, "repeated"),
    ],
)
def test_a_gain_does_not_excuse_a_broken_guard(
    work: Path, shard_set: ShardSet, trouble: dict[str, Any], guard: str
) -> None:
    decided(work, shard_set, "a", 0.3)
    suffix = trouble.pop("suffix", "")
    captions = [caption + suffix for caption in said(shard_set, 0.9)]
    refused = decided(work, shard_set, "b", 0.9, captions=captions, **trouble)
    assert not refused.promoted and refused.gains["cider"].low > 0
    assert [one.name for one in refused.failed()] == [guard]
    assert f"for {guard} (" in refused.reason


def test_one_caption_for_all_pictures_is_refused_by_name(work: Path, shard_set: ShardSet) -> None:
    """What training on shuffled captions ends in."""
    decided(work, shard_set, "a", 0.9)
    refused = decided(work, shard_set, "b", 0, captions=["a dog runs over the grass"] * 40)
    names = {guard.name for guard in refused.failed()}
    assert {"vocabulary", "shared", "misplaced"} <= names


def test_slices_by_a_column_of_meta(work: Path, shard_set: ShardSet) -> None:
    by_place = settings(slice_by="place", min_slice=10)
    decided(work, shard_set, "a", 0.5, by_place)
    decision = decided(work, shard_set, "b", 0.9, by_place)
    assert [one.value for one in decision.slices] in (
        ["indoors", "outdoors"],
        ["outdoors", "indoors"],
    )
    assert all(one.judged and one.images == 20 for one in decision.slices)
    assert "slice" in {guard.name for guard in decision.guards}
    with pytest.raises(ConfigError, match=r"promote.slice_by = 'season': .*they have place"):
        decided(work, shard_set, "c", 0.9, settings(slice_by="season"))


def test_a_slice_that_loses_refuses_a_gain(work: Path, shard_set: ShardSet) -> None:
    from pipeline.shards import ShardReader

    by_place = settings(slice_by="place", min_slice=10)
    places = [info["meta"]["place"] for info in ShardReader(shard_set, "val").infos()]
    right, wrong = said(shard_set, 1.0), said(shard_set, 0.0)
    champion = [
        one if place == "indoors" and n % 3 else other
        for n, (place, one, other) in enumerate(zip(places, right, wrong, strict=True))
    ]
    better = [
        one if place == "outdoors" else other
        for place, one, other in zip(places, right, wrong, strict=True)
    ]
    decided(work, shard_set, "a", 0, by_place, captions=champion)
    refused = decided(
        work,
        shard_set,
        "b",
        0,
        settings(slice_by="place", min_slice=10, max_p_value=1.0, min_gain=-1000.0),
        captions=better,
    )
    assert [guard.name for guard in refused.failed()] == ["slice"]
    assert "place = 'indoors' (20 pictures)" in refused.reason


def test_measurements_of_a_killed_promotion_are_taken_up(work: Path, shard_set: ShardSet) -> None:
    from pipeline.promote.measure import Measured, measure

    judging.measure = measured
    made = candidate(work, shard_set, "a", said(shard_set, 0.5))
    evaluation_set = present_set(Config(), shard_set)
    found = measured(Config(), "a", Path(made[0].path), evaluation_set, work)
    found.save(work / "kept" / "captions.json")
    kept = measure(Config(), "a", Path("/nowhere"), evaluation_set, work / "kept")
    assert kept == found and isinstance(kept, Measured)
