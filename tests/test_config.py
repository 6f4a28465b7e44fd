"""Settings: strict, and errors that name the key, the value and the way out."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config import Config, load_config
from pipeline.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


def error(tmp_path, text, overrides=None):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load_config(path, overrides)
    return str(raised.value)


def test_an_unknown_key_names_the_nearest(tmp_path):
    assert "did you mean train.epochs?" in error(tmp_path, "train: {epoch: 3}")
    assert "did you mean train.encoder.weights?" in error(
        tmp_path, "train: {encoder: {weigths: x}}"
    )
    assert "did you mean shard?" in error(tmp_path, "shards: {}")
    message = error(tmp_path, "shard: {sources: [{annotation: x}]}")
    assert "did you mean shard.sources.0.annotations?" in message


def test_a_key_in_the_wrong_section_names_the_right_one(tmp_path):
    assert "did you mean train.learning_rate?" in error(tmp_path, "learning_rate: 1")


def test_values_out_of_bounds_are_named_with_the_bound(tmp_path):
    message = error(tmp_path, "train: {epochs: 0}")
    assert "train.epochs = 0" in message and "greater than or equal to 1" in message
    assert "train.encoder.train = 'some'" in error(tmp_path, "train: {encoder: {train: some}}")
    # True is no number of stages.
    assert "train.encoder.train = True" in error(tmp_path, "train: {encoder: {train: true}}")
    assert "device = 'gpu': input should be auto, cpu" in error(tmp_path, "device: gpu")
    assert "finite number" in error(tmp_path, "promote: {min_gain: .nan}")
    # More than there can be: the process would die for want of them, and others with it.
    assert "threads = 100000: input should be less than or" in error(tmp_path, "threads: 100000")


def test_true_is_not_taken_for_one(tmp_path):
    for setting in ("epochs", "devices", "learning_rate", "ema"):
        message = error(tmp_path, f"train: {{{setting}: true}}")
        assert f"train.{setting} = True: input should be a number, not true" in message
    assert "valid string" in error(tmp_path, "data_root: true")
    assert "valid tuple" in error(tmp_path, "train: {transform: {mean: true}}")
    assert load_config(None, ["train.augment.flip=true"]).train.augment.flip is True


def test_a_value_in_the_place_of_a_section_names_its_keys(tmp_path):
    message = error(tmp_path, "train: {encoder: resnet18}")
    assert "train.encoder = 'resnet18': it is a section, of the keys name, weights" in message
    assert "of the keys kind, width" in error(tmp_path, "train: {decoder: gpt}")


def test_more_candidates_than_beams_are_refused(tmp_path):
    message = error(tmp_path, "caption: {candidates: 5, beam: 2}")
    assert "candidates = 5, but a beam of 2 finds no more than 2; set beam = 5" in message
    assert load_config(None, ["caption.candidates=5", "caption.beam=5"]).caption.candidates == 5
    assert "caption.model" in error(tmp_path, "caption: {model: ''}")


def test_a_colon_and_a_space_stand_in_quotes(tmp_path):
    message = error(tmp_path, "train:\n  encoder:\n    name: timm: resnet18\n")
    assert "line 3" in message and "stands in quotes" in message


def test_no_weights_are_null_or_none():
    for word in ("null", "none"):
        assert load_config(None, [f"train.encoder.weights={word}"]).train.encoder.weights is None


def test_a_caption_must_have_room_for_its_end(tmp_path):
    message = error(tmp_path, "train: {generation: {min_len: 9, max_len: 9}}")
    assert "min_len = 9 must be below max_len = 9" in message


def test_each_kind_of_decoder_and_tokenizer_has_its_own_settings(tmp_path):
    message = error(tmp_path, "train: {decoder: {kind: gpt, attention: 9}}")
    assert "train.decoder.attention is for kind lstm; kind gpt has: layers, width" in message
    message = error(tmp_path, "train: {decoder: {layers: 2}}")
    assert "train.decoder.layers is for kind gpt; kind lstm has: width, embedding" in message
    message = error(tmp_path, "train: {decoder: {kind: gpt, layer: 2}}")
    assert "did you mean train.decoder.layers?" in message
    message = error(tmp_path, "train: {decoder: {kind: rnn}}")
    assert "train.decoder.kind = 'rnn': known are 'lstm', 'gpt'" in message
    assert "kind bpe has: vocabulary" in error(
        tmp_path, "train: {tokenizer: {kind: bpe, min_count: 2}}"
    )
    assert "train.tokenizer.path is required" in error(tmp_path, "train: {tokenizer: {kind: file}}")
    message = error(tmp_path, "train: {decoder: {kind: gpt, width: 10, heads: 4}}")
    assert "train.decoder: heads = 4 must divide width = 10" in message


def test_settings_that_do_not_fit_the_decoder(tmp_path):
    gpt = load_config(None, ["train.decoder.kind=gpt"]).train
    assert gpt.attention_penalty == 0, "no decoder but the LSTM has it"
    assert load_config(None).train.attention_penalty == 1
    message = error(tmp_path, "train: {attention_penalty: 1, decoder: {kind: gpt}}")
    assert "attention_penalty = 1.0 is for the lstm decoder; set it to 0 for gpt" in message
    message = error(tmp_path, "train: {decoder: {kind: gpt, positions: 20}}")
    assert "decoder.positions = 20 is too few for max_caption_tokens = 40" in message


def test_files_that_are_no_settings(tmp_path):
    assert "line 2 is not valid YAML" in error(tmp_path, "train:\n  a: ]1\n")
    assert "not valid YAML" in error(tmp_path, "data_root: 2020-13-45")
    assert "must hold a mapping" in error(tmp_path, "[1, 2]")
    assert "not valid YAML" in error(tmp_path, "data_root: " + "[" * 5000)
    with pytest.raises(ConfigError, match=r"no configuration file .*absent\.yaml"):
        load_config(tmp_path / "absent.yaml")


def test_overrides_reach_every_depth(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("shard: {sources: [{annotations: a.json}]}\ntrain:\n")
    config = load_config(
        path, ["train.encoder.name=resnet50", "shard.sources.0.split=val", "train.epochs=3"]
    )
    assert config.train.encoder.name == "resnet50"
    assert config.shard.sources[0].split == "val"
    assert config.train.epochs == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "not of the form"),
        ("=3", "not of the form"),
        ("device.x=1", "unknown|valid"),
        ("device=2020-13-45", "not a YAML value"),
        ("shard.sources.7.split=a", "not a position|unknown key|valid"),
    ],
)
def test_overrides_that_cannot_work(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [override])


def test_yaml_is_safe(tmp_path):
    assert "not valid YAML" in error(tmp_path, "device: !!python/object/apply:os.getcwd []")


def test_resolved_settings_read_back_equal(tmp_path):
    for more in ([], ["train.decoder.kind=gpt", "train.tokenizer.kind=bpe"]):
        config = load_config(None, ["train.epochs=3", "shard.holdout={val: 0.1}", *more])
        (tmp_path / "c.yaml").write_text(config.to_yaml())
        assert load_config(tmp_path / "c.yaml") == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_of_the_repository_is_valid(path):
    assert isinstance(load_config(path), Config)
