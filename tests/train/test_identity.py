"""What belongs to a training's fingerprint: every setting that may decide its weights."""

from __future__ import annotations

import pytest
from coloured_squares import settings

from pipeline.config import Config, TrainConfig, load_config
from pipeline.records import ShardSet
from pipeline.train.identity import MACHINERY, _content, fingerprint

SHARDS = ShardSet(manifest="m", fingerprint="f", samples={}, captions={}, bad={}, report="r")
OTHERS = [
    "order.streams=8",
    "order.run=9",
    "order.window=10",
    "accumulate=2",
    "schedule.kind=constant",
    "schedule.floor=0.5",
    "encoder_frozen_epochs=1",
    "ema=0.9",
    "average={count: 2}",
    "average={of: last}",
    "augment.flip=true",
    "augment.flip_words=[]",
    "precision=bf16",
    "compile=true",
    "early_stop=3",
]


def known(*options: str) -> str:
    return fingerprint(settings("", *(f"train.{option}" for option in options)), SHARDS)


@pytest.mark.parametrize("option", OTHERS)
def test_what_decides_the_weights_is_another_training(option):
    assert known(option) != known()


def test_machinery_is_not():
    values = {
        "checkpoint_seconds": 9,
        "keep_checkpoints": 7,
        "workers": 2,
        "devices": 4,
        "sample_captions": 1,
        "allow_overlap": True,
    }
    assert sorted(values) == sorted(MACHINERY)
    assert known(*(f"{name}={value}" for name, value in values.items())) == known()


def test_every_setting_of_the_recipe_says_what_it_does():
    plain = {"epochs", "seed", "validation_split", "validation_beam", "weight_decay"}
    plain |= {"label_smoothing"}
    for name, field in TrainConfig.model_fields.items():
        nested = field.default_factory is not None
        assert field.description or nested or name in plain, name


def test_a_training_from_before_there_were_levels_is_known() -> None:
    without, with_all = Config(), load_config(None, ["train.encoder.levels=all"])
    assert "levels" not in _content(without)["encoder"]
    assert _content(with_all)["encoder"]["levels"] == "all"
