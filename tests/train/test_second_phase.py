"""The second phase in the same command: from the best epoch on, and what the guard leaves behind."""

from __future__ import annotations

import json

import pytest
import torch
from coloured_squares import make_data, settings
from safetensors.torch import load_file

from pipeline.predict import load_captioner
from pipeline.records import Checkpoint
from pipeline.shard import shard
from pipeline.train import log, train
from pipeline.train.position import EpochScore, Position
from pipeline.train.run import TrainingRun

SECOND = "train.self_critical={epochs: 3, samples: 4, learning_rate: 0.001, warmup_steps: 5"
OPTIONS = ["train.epochs=4", "train.generation={max_len: 8}", "train.batch_size=5"]
ANYTHING = "guard: {min_ended: 0, max_repeats: 1, min_length: 0, max_length: 9, min_vocabulary: 0}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, {"train": 30, "val": 9})
    return folder


def metrics(work) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for line in next(work.glob("train/*/metrics.jsonl")).open():
        point = json.loads(line)
        found.setdefault(point["key"], []).append(point["value"])
    return found


def test_two_phases_in_one_command(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(log, "LOG_STEPS", 1)
    config = settings(data, *OPTIONS, f"{SECOND}, batch_size: 3, {ANYTHING}}}")
    shards = shard(config, tmp_path)
    record = train(config, tmp_path, shards)
    said = capsys.readouterr().err
    assert "self-critical training: epochs 5 to 7" in said
    assert "epoch 7/7" in said
    found = metrics(tmp_path)
    assert len(found["val_cider"]) == 7
    assert record.validation_cider == pytest.approx(max(found["val_cider"]))
    assert {"reward", "baseline", "advantage_std", "ended", "repeats", "draw_seconds"} <= set(found)
    drawn = [4 * tokens for tokens in found["sample_tokens"]]
    rates = zip(found["tokens_per_second"], found["images_per_second"], strict=True)
    assert [tokens / images for tokens, images in rates][-30:] == pytest.approx(drawn)
    # 4 epochs of 6 steps, 3 of 10: the rate warms up to the second phase's own peak.
    assert found["learning_rate_decoder"][-1] < 0.001
    assert isinstance(Checkpoint.load(next(tmp_path.glob("train/*/record.json"))), Checkpoint)
    load_captioner(record.path, device="cpu").caption([data / "0.png"])


def test_rewards_rise(data, tmp_path):
    """A model that barely began writes better captions for their own sake."""
    second = "train.self_critical={epochs: 8, samples: 5, learning_rate: 0.005, warmup_steps: 10"
    config = settings(
        data,
        "train.epochs=6",
        "train.generation={max_len: 8}",
        "train.decoder={width: 64, embedding: 64, attention: 32, dropout: 0.1}",
        f"{second}, {ANYTHING}}}",
    )
    train(config, tmp_path, shard(config, tmp_path))
    found = metrics(tmp_path)
    assert max(found["val_cider"][6:]) > max(found["val_cider"][:6])
    rewards = [-loss for loss in found["epoch_loss"][6:]]
    assert rewards[-1] > rewards[0] + 0.2


def test_the_guard_ends_training_with_the_best_epoch_so_far(data, tmp_path, capsys):
    guarded = f"{SECOND}, guard: {{window: 30, max_length: 0.61}}}}"
    config = settings(data, *OPTIONS, guarded)
    shards = shard(config, tmp_path)
    record = train(config, tmp_path, shards)
    said = capsys.readouterr().err
    assert "captions collapse, so training stops at step 2" in said
    assert "(min_length = 0.6, max_length = 0.61)" in said
    assert "train.self_critical.learning_rate (now 0.001)" in said
    first = train(settings(data, *OPTIONS), tmp_path / "first", shards)
    assert (record.epoch, record.validation_cider) == (first.epoch, first.validation_cider)
    weights = [load_file(f"{path}/model.safetensors") for path in (record.path, first.path)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])


def test_it_begins_with_the_best_epochs_weights(data, tmp_path, monkeypatch):
    config = settings(data, *OPTIONS, f"{SECOND}, {ANYTHING}}}", "train.ema=0.5")
    shards = shard(config, tmp_path)
    begun = []
    begin = TrainingRun._begin_second_phase

    def spy(run):
        begin(run)
        best = run.position.best
        kept = load_file(run.checkpoints.path(best.step) / "model.safetensors")
        now = run.state.saved.model.state_dict()
        begun.append(all(torch.equal(kept[name], now[name]) for name in kept))
        begun.append(not run.state.optimiser.state)
        begun.append(all(torch.equal(now[n], t) for n, t in run.state.average.tensors.items()))

    monkeypatch.setattr(TrainingRun, "_begin_second_phase", spy)
    train(config, tmp_path, shards)
    assert begun == [True, True, True]


def test_patience_starts_anew():
    position = Position(epoch=9, scores=[EpochScore(epoch=4, step=40, cider=50.0)])
    assert position.epochs_without_gain == 5
    position.begin_second_phase()
    assert position.epochs_without_gain == 0
    position.epoch = 11
    assert position.epochs_without_gain == 2
