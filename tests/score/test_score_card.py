"""The score stage: its files, that finished work is recognised, and the shuffled control."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline import score as stage
from pipeline import storage
from pipeline.config import load_config
from pipeline.decode import Caption
from pipeline.errors import ConfigError, DataError
from pipeline.evaluate import evaluate_captioner
from pipeline.metrics import METRICS, References, score_captions
from pipeline.score import as_checkpoint, find_score_card, score
from pipeline.shard import shard
from pipeline.shards import ShardReader

WORDS = ["red", "green", "blue", "dark", "light", "square", "sky", "page"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, save_captioner):
    """A shard set of twelve flat pictures and a captioner with random weights."""
    folder = tmp_path_factory.mktemp("score")
    rows = []
    for number in range(12):
        Image.new("RGB", (32, 32), (number * 20, 255 - number * 20, 90)).save(
            folder / f"{number}.png"
        )
        words = [WORDS[(number + shift) % 8] for shift in range(5)]
        for caption in (" ".join(words), "a " + " ".join(reversed(words))):
            rows.append({"image": f"{number}.png", "caption": caption, "split": "val"})
    (folder / "val.jsonl").write_text("\n".join(map(json.dumps, rows)))
    save_captioner(folder / "model", [row["caption"] for row in rows])
    return folder


def settings(place: Path, *more: str):
    source = {"kind": "jsonl", "annotations": str(place / "val.jsonl")}
    return load_config(None, [f"shard.sources={json.dumps([source])}", "device=cpu", *more])


def test_the_card_the_rows_and_the_predictions_agree(place, tmp_path, capsys):
    config = settings(place)
    shards = shard(config, tmp_path)
    checkpoint = as_checkpoint(place / "model")
    card = score(config, tmp_path, shards, checkpoint)
    directory = Path(card.path)
    rows = pq.read_table(directory / "per_image.parquet").to_pylist()
    predictions = storage.read_json(directory / "predictions.json")
    assert [{"image_id": r["image_id"], "caption": r["caption"]} for r in rows] == predictions
    references = {}
    for line in (place / "val.jsonl").read_text().splitlines():
        row = json.loads(line)
        references.setdefault(row["image"], []).append(row["caption"])
    names = [info["file_name"] for info in ShardReader(shards, "val").infos()]
    expected = score_captions([references[n] for n in names], [r["caption"] for r in rows])
    assert card.metrics == {name: pytest.approx(100 * expected.corpus[name]) for name in METRICS}
    assert [r["cider"] for r in rows] == pytest.approx(expected.per_image["cider"])
    assert card.signature == expected.signature and card.images == 12
    whole = storage.read_json(directory / "scores.json")
    assert whole["shard_set"] and whole["settings"]["score"]["split"] == "val"
    assert "cider" in whole["definitions"]
    capsys.readouterr()
    assert score(config, tmp_path, shards, checkpoint) == card
    assert "nothing new" in capsys.readouterr().err
    assert find_score_card(config, tmp_path, shards, checkpoint) == card


def test_shuffled_pictures_keep_the_captions_but_not_their_places(place, tmp_path):
    shards = shard(settings(place), tmp_path)
    checkpoint = as_checkpoint(place / "model")
    cards = [
        score(settings(place, f"score.shuffle_images={s}"), tmp_path, shards, checkpoint)
        for s in ("false", "true")
    ]
    assert cards[0].fingerprint != cards[1].fingerprint
    tables = [pq.read_table(Path(card.path) / "per_image.parquet").to_pylist() for card in cards]
    assert [r["caption"] for r in tables[0]] == [r["caption"] for r in tables[1]]


def test_scores_in_two_types_of_number_are_two_cards(place, tmp_path):
    shards = shard(settings(place), tmp_path)
    checkpoint = as_checkpoint(place / "model")
    whole = score(settings(place), tmp_path, shards, checkpoint)
    half_settings = settings(place, "score.dtype=bfloat16")
    with pytest.raises(DataError, match="no score card of these settings"):
        find_score_card(half_settings, tmp_path, shards, checkpoint)
    half = score(half_settings, tmp_path, shards, checkpoint)
    one, other = (
        pq.read_table(Path(card.path) / "per_image.parquet")["score"].to_pylist()
        for card in (whole, half)
    )
    assert other != one and other == pytest.approx(one, abs=0.05)


class Parrot:
    """A captioner whose features are places, and whose captions are those references."""

    def __init__(self, captions: list[str]) -> None:
        self.captions = captions

    def caption_features(self, features, beam=None):
        return [Caption(self.captions[i], 0.0, ()) for i in features.tolist()]


def test_shuffled_pictures_get_the_scores_of_others(place, tmp_path):
    reader = ShardReader(shard(settings(place), tmp_path), "val")
    right = Parrot([captions[0] for captions in reader.captions()])
    plain, shuffled = (
        evaluate_captioner(right, reader, batch_size=5, shuffle_images=s, features=torch.arange)
        for s in (False, True)
    )
    assert plain.hypotheses == [captions[0] for captions in reader.captions()]
    assert sorted(shuffled.hypotheses) == sorted(plain.hypotheses)
    assert shuffled.hypotheses != plain.hypotheses
    assert plain.scores.per_image["bleu_4"] == pytest.approx([1.0] * 12, abs=1e-6)
    assert shuffled.scores.corpus["cider"] < 0.6 * plain.scores.corpus["cider"]
    assert shuffled.references == plain.references


def test_a_card_belongs_to_one_training_also_when_two_end_alike(place, tmp_path):
    shards = shard(settings(place), tmp_path)
    first = as_checkpoint(place / "model")
    second = first.model_copy(update={"fingerprint": "0123456789abcdef"})
    cards = [score(settings(place), tmp_path, shards, c) for c in (first, second)]
    assert [card.checkpoint for card in cards] == [first.fingerprint, second.fingerprint]
    assert cards[0].metrics == cards[1].metrics


def test_a_split_that_is_not_there_and_a_score_that_is_not_yet(place, tmp_path):
    shards = shard(settings(place), tmp_path)
    checkpoint = as_checkpoint(place / "model")
    with pytest.raises((ConfigError, DataError), match="val"):
        score(settings(place, "score.split=test"), tmp_path, shards, checkpoint)
    with pytest.raises(DataError, match="captionmill score"):
        find_score_card(settings(place, "score.beam=2"), tmp_path, shards, checkpoint)


def test_meteor_is_in_the_card_where_it_was_asked_for(place, tmp_path, monkeypatch):
    asked = []

    def stand_in(references, hypotheses):
        asked.append((references, hypotheses))
        return 0.25, [number / 100 for number in range(len(hypotheses))]

    monkeypatch.setattr(stage, "require_meteor", lambda: None)
    monkeypatch.setattr(stage, "meteor_scores", stand_in)
    shards = shard(settings(place), tmp_path)
    checkpoint = as_checkpoint(place / "model")
    without = score(settings(place), tmp_path, shards, checkpoint)
    assert "meteor" not in without.metrics and not asked
    card = score(settings(place, "score.meteor=true"), tmp_path, shards, checkpoint)
    assert card.metrics == {**without.metrics, "meteor": 25.0}
    assert card.fingerprint != without.fingerprint and card.signature == without.signature
    rows = pq.read_table(Path(card.path) / "per_image.parquet").to_pylist()
    assert [r["meteor"] for r in rows] == [number / 100 for number in range(12)]
    assert asked == [(ShardReader(shards, "val").captions(), [r["caption"] for r in rows])]
    whole = storage.read_json(Path(card.path) / "scores.json")
    assert whole["definitions"]["meteor"] == "METEOR 1.5 (pycocoevalcap's Java)"
    plain = storage.read_json(Path(without.path) / "scores.json")
    assert "meteor" not in plain["definitions"]
    assert pq.read_schema(Path(without.path) / "per_image.parquet").names[-1] == "cider"


def test_meteor_without_java_stops_before_any_work(place, tmp_path, monkeypatch):
    shards = shard(settings(place), tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("pipeline.metrics.meteor._jar", lambda: None)
    with pytest.raises(ConfigError, match=r"captionmill\[meteor\]"):
        score(
            settings(place, "score.meteor=true"), tmp_path, shards, as_checkpoint(place / "model")
        )
    assert not (tmp_path / "score").exists()


def test_a_stored_table_decides_cider_and_stands_in_the_signature(place, tmp_path):
    table = References([["a red square"], ["blue sky"], ["dark page"]]).document_frequencies
    table.save(tmp_path / "train.parquet")
    plain, stored = (
        settings(place, *more)
        for more in ((), (f"score.document_frequencies={tmp_path / 'train.parquet'}",))
    )
    shards = shard(plain, tmp_path)
    checkpoint = as_checkpoint(place / "model")
    one, other = (score(config, tmp_path, shards, checkpoint) for config in (plain, stored))
    assert one.metrics["bleu_4"] == other.metrics["bleu_4"]
    assert one.metrics["cider"] != other.metrics["cider"]
    assert f"|df:stored(3,{table.fingerprint})|" in other.signature
    assert one.fingerprint != other.fingerprint
    # Another table under the same name is another card.
    References([["a red square"]]).document_frequencies.save(tmp_path / "train.parquet")
    with pytest.raises(DataError, match="no score card"):
        find_score_card(stored, tmp_path, shards, checkpoint)


def test_a_stored_table_that_is_absent_is_named(place, tmp_path):
    config = settings(place, "score.document_frequencies=nowhere.parquet")
    with pytest.raises(DataError, match=r"nowhere\.parquet"):
        score(config, tmp_path, shard(config, tmp_path), as_checkpoint(place / "model"))


def test_a_card_of_another_tokeniser_is_made_again(place, tmp_path, monkeypatch):
    config = settings(place)
    shards = shard(config, tmp_path)
    checkpoint = as_checkpoint(place / "model")
    before = score(config, tmp_path, shards, checkpoint)
    monkeypatch.setattr("pipeline.metrics.ptb.VERSION", -1)
    after = score(config, tmp_path, shards, checkpoint)
    assert after.fingerprint != before.fingerprint
    assert "tok:ptb-1|" in after.signature


def test_equal_captions_of_other_pictures_are_other_references(place, tmp_path):
    config = settings(place)
    one = score(config, tmp_path, shard(config, tmp_path), as_checkpoint(place / "model"))
    other = tmp_path / "other"
    other.mkdir()
    for number in range(12):
        Image.new("RGB", (32, 32), (90, number, 200)).save(other / f"{number}.png")
    (other / "val.jsonl").write_text((place / "val.jsonl").read_text())
    moved = settings(other)
    two = score(moved, tmp_path, shard(moved, tmp_path), as_checkpoint(place / "model"))
    assert one.signature == two.signature
    assert one.references != two.references
