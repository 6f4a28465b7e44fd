"""Training: it learns, finished work is recognised, and bad settings stop it first."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from coloured_squares import SETTINGS, SMALL, make_data, settings, sources
from safetensors.torch import load_file

from pipeline.config import load_config
from pipeline.errors import ConfigError, DataError, ModelError, StoppedError, WeightsError
from pipeline.evaluate import load_pixels
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import Photos, load_captioner
from pipeline.predict.photos import embed
from pipeline.shard import shard
from pipeline.text import Tokenizer
from pipeline.train import find_checkpoint, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, {"train": 30, "val": 9})
    return folder


def test_it_learns_and_the_checkpoint_captions(data, tmp_path):
    config = settings(
        data,
        "train.epochs=10",
        "train.batch_size=5",
        "train.decoder={width: 128, embedding: 128, attention: 64, dropout: 0.2}",
    )
    shards = shard(config, tmp_path)
    record = train(config, tmp_path, shards)
    assert record.validation_cider > 300, "three colours are not hard"
    captioner = load_captioner(record.path, device="cpu")
    texts = [c.text for c in captioner.caption([data / "0.png", (data / "1.png").read_bytes()])]
    assert ["red" in texts[0], "green" in texts[1]] == [True, True]
    pixels = torch.zeros(3, 20, 30, dtype=torch.uint8)
    pixels[2] = 220
    assert "blue" in captioner.caption([pixels])[0].text
    assert find_checkpoint(config, tmp_path, shards) == record


ARCHITECTURES = {
    "frozen CNN, GPT, bytes": ["train.decoder={kind: gpt, layers: 2, width: 64, heads: 2}"],
    "ViT from scratch, GPT, bytes": [
        "train.decoder={kind: gpt, layers: 2, width: 64, heads: 2}",
        "train.encoder={name: vit, train: all, patch: 8, depth: 2, width: 32, heads: 2}",
        "train.encoder_learning_rate=0.003",
    ],
}


@pytest.mark.parametrize("architecture", ARCHITECTURES.values(), ids=ARCHITECTURES.keys())
def test_other_architectures_learn_with_the_same_command(data, tmp_path, architecture):
    options = ["train.epochs=25", "train.batch_size=10", "train.tokenizer={kind: bpe}"]
    config = load_config(None, [*SETTINGS, *options, *architecture, *sources(data)])
    record = train(config, tmp_path, shard(config, tmp_path))
    assert record.validation_cider > 300
    assert bool(list(tmp_path.glob("features/*"))) == (config.train.encoder.train == "none")
    captioner = load_captioner(record.path, device="cpu")
    texts = [c.text for c in captioner.caption([data / "0.png", data / "1.png"])]
    assert ["red" in texts[0], "green" in texts[1]] == [True, True]


@pytest.mark.parametrize("cached", ["true", "false"])
def test_training_photos_are_kept_where_captions_are_compared_with_theirs(data, tmp_path, cached):
    consensus = "train.generation.consensus={samples: 4, photos: 20}"
    config = settings(data, "train.epochs=6", f"train.cache_features={cached}", consensus)
    record = train(config, tmp_path, shard(config, tmp_path))
    captioner = load_captioner(record.path, device="cpu")
    pixels = torch.stack([captioner.pixels(data / f"{number}.png") for number in range(3)])
    photos = Photos.from_bytes(captioner.saved.photos)
    assert len(photos.captions) == 20  # of 30
    # Validation photos of the same three colours: those of their colour tell most about them.
    weights = photos.weights(embed(captioner.encode(pixels).mean_BC[None]))
    for row, colour in zip(weights, ("red", "green", "blue"), strict=True):
        own = [colour in texts[0] for texts in photos.captions]
        assert row[own].sum() > 0.8
        assert abs(row[[not one for one in own]]).sum() < 0.2


def test_a_wish_to_stop_is_granted_while_photos_are_looked_at(data, tmp_path, monkeypatch):
    consensus = "train.generation.consensus={samples: 0, photos: 20, views: 2}"
    config = settings(data, "train.epochs=1", "train.cache_features=false", consensus)
    shards = shard(config, tmp_path)

    def interrupted(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return load_pixels(*given)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.train.ending.load_pixels", interrupted)
        with pytest.raises(StoppedError, match="run the same command again to go on"):
            train(config, tmp_path, shards)
    record = train(config, tmp_path, shards)
    assert len(Photos.from_bytes(SavedCaptioner.load(Path(record.path)).photos).captions) == 20


def test_a_tokenizer_from_a_file(data, tmp_path):
    file = tmp_path / "t" / "tokenizer.json"
    file.parent.mkdir()
    file.write_text(Tokenizer.train_bpe(["a red square"] * 9, 300).to_json())
    options = ["train.epochs=1", "train.tokenizer={kind: file, path: t}", f"data_root={tmp_path}"]
    config = load_config(None, [*SETTINGS, SMALL, *options, *sources(data)])
    shards = shard(config, tmp_path)
    record = train(config, tmp_path, shards)
    assert len(load_captioner(record.path, device="cpu").saved.tokenizer) == len(
        Tokenizer.from_files(file)
    )
    assert find_checkpoint(config, tmp_path, shards) == record
    file.write_text(Tokenizer.train_bpe(["a blue ball"] * 9, 300).to_json())
    with pytest.raises(DataError, match="no finished checkpoint"):  # another file, another model
        find_checkpoint(config, tmp_path, shards)
    file.unlink()
    with pytest.raises(ModelError, match=r"train\.tokenizer\.path = 't': no tokenizer"):
        train(config, tmp_path, shards)


def test_finished_work_is_recognised_without_training(data, tmp_path, capsys):
    config = settings(data, "train.epochs=1")
    shards = shard(config, tmp_path)
    record = train(config, tmp_path, shards)
    weights = (Path(record.path) / "model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    # Machinery is no content: other devices, threads and checkpoint times train the same thing.
    again = settings(data, "train.epochs=1", "train.checkpoint_seconds=7", "threads=2")
    assert train(again, tmp_path, shards) == record
    assert "nothing new" in capsys.readouterr().err
    assert (Path(record.path) / "model.safetensors").stat().st_mtime_ns == weights
    with pytest.raises(DataError, match="captionmill train"):
        find_checkpoint(settings(data, "train.epochs=2"), tmp_path, shards)


FILES = ["model.safetensors", "tokenizer.json", "document_frequencies.parquet", "photos.parquet"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("change", ["lost", "cut short"])
def test_a_model_with_a_file_that_is_not_what_it_was_is_trained_again(
    data, tmp_path, capsys, file, change
):
    consensus = "train.generation.consensus={samples: 0, photos: 20}"
    config = settings(data, "train.epochs=1", consensus)
    shards = shard(config, tmp_path)
    model = Path(train(config, tmp_path, shards).path)
    whole = (model / file).read_bytes()
    if change == "lost":
        (model / file).unlink()
    else:
        (model / file).write_bytes(whole[:-9])
    with pytest.raises(DataError, match="captionmill train"):
        find_checkpoint(config, tmp_path, shards)
    train(config, tmp_path, shards)
    assert "incomplete or damaged: it is trained again" in capsys.readouterr().err
    assert (model / file).read_bytes() == whole


def test_checkpoints_that_a_finished_run_left_go_with_the_next_command(data, tmp_path):
    config = settings(data, "train.epochs=1")
    shards = shard(config, tmp_path)
    left = Path(train(config, tmp_path, shards).path).parent / "checkpoints" / "00000001"
    left.mkdir(parents=True)
    train(config, tmp_path, shards)
    assert not left.parent.exists()


def test_a_frozen_encoder_trains_alike_with_and_without_the_cache(data, tmp_path):
    losses = []
    for cached in ("true", "false"):
        config = settings(data, "train.epochs=2", f"train.cache_features={cached}")
        record = train(config, tmp_path, shard(config, tmp_path))
        losses.append(load_file(Path(record.path) / "model.safetensors"))
    cache = list((tmp_path / "features").rglob("*.npy"))
    assert len(cache) == 2, "one file a tar"
    for name, tensor in losses[0].items():
        torch.testing.assert_close(tensor, losses[1][name], atol=0.05, rtol=0.05, msg=name)


def test_settings_that_cannot_work_stop_before_any_work(data, tmp_path):
    good = settings(data)
    shards = shard(good, tmp_path)
    with pytest.raises(ConfigError, match=r"no pictures in the split 'dev'; it has .*val \(9\)"):
        train(settings(data, "train.validation_split=dev"), tmp_path, shards)
    with pytest.raises(ConfigError, match="unknown encoder 'resnet19'"):
        train(settings(data, "train.encoder.name=resnet19"), tmp_path, shards)
    with pytest.raises(WeightsError, match=r"no weights file .*w\.pth"):
        train(settings(data, "train.encoder.weights=nowhere/w.pth"), tmp_path, shards)
    with pytest.raises(ConfigError, match="CUDA"):
        train(settings(data, "device=cuda:99"), tmp_path, shards)
    moving = "train.encoder={train: all, freeze_batch_norm: false}"
    with pytest.raises(ConfigError, match="batch_size = 29 leaves a batch of one of 30 pictures"):
        train(settings(data, moving, "train.batch_size=29"), tmp_path, shards)
    with pytest.raises(ConfigError, match=r"min_count = 500: no word"):
        train(settings(data, "train.tokenizer.min_count=500"), tmp_path, shards)
    with pytest.raises(ConfigError, match=r"banned_words: '\?' is no word"):
        train(settings(data, "train.generation.banned_words=['?']"), tmp_path, shards)
    torch.save({"strange": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="strange"):
        train(settings(data, f"train.encoder.weights={tmp_path / 'w.pth'}"), tmp_path, shards)
