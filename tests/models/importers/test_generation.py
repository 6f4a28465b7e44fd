"""Generation settings of old and new checkpoints, and what is said of those not followed."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import ModelError
from pipeline.models.importers.checkpoint import Checkpoint
from pipeline.models.importers.generation import read_generation


def read(directory, file=None, positions=100, **config):
    if file is not None:
        (directory / "generation_config.json").write_text(json.dumps(file))
    checkpoint = Checkpoint(directory, {"decoder": {}, **config})
    generation, notes = read_generation(checkpoint, ("decoder",), positions)
    return generation.model_dump(exclude_unset=True), notes


def test_what_nobody_says_is_transformers_default(tmp_path):
    values, notes = read(tmp_path)
    assert values == {
        "beam": 1,
        "max_len": 20,
        "min_len": 0,
        "length_penalty": 1.0,
        "no_repeat_ngram": 0,
        "repetition_penalty": 1.0,
    }
    assert notes == []


def test_the_file_wins_over_the_configuration_and_that_over_its_section(tmp_path):
    values, _ = read(
        tmp_path,
        {"num_beams": 4, "length_penalty": None},
        num_beams=3,
        length_penalty=2,
        decoder={"length_penalty": 1.5, "repetition_penalty": 1.1, "no_repeat_ngram_size": 3},
    )
    assert (values["beam"], values["length_penalty"]) == (4, 2.0)
    assert (values["repetition_penalty"], values["no_repeat_ngram"]) == (1.1, 3)


def test_defaults_that_old_releases_wrote_down_are_defaults(tmp_path):
    old = {"max_length": 20, "min_length": 0, "num_beams": 1, "do_sample": False, "top_k": 50}
    values, notes = read(tmp_path, decoder=old, **old)
    assert (values["max_len"], values["beam"], notes) == (20, 1, [])
    assert read(tmp_path, decoder=old, max_length=16)[0]["max_len"] == 15


def test_the_start_token_counts_in_lengths_but_not_in_numbers_of_new_tokens(tmp_path):
    values, _ = read(tmp_path, {"max_length": 16, "min_length": 5})
    assert (values["max_len"], values["min_len"]) == (15, 4)
    values, _ = read(
        tmp_path, {"max_length": 16, "max_new_tokens": 30, "min_length": 5, "min_new_tokens": 8}
    )
    assert (values["max_len"], values["min_len"]) == (30, 8)
    values, _ = read(tmp_path, {"max_length": 20})
    assert values["max_len"] == 19
    values, notes = read(tmp_path, {"max_length": 64}, positions=40)
    assert (values["max_len"], notes) == (40, ["captions end at 40 tokens instead of 63"])


def test_what_is_not_followed_is_said(tmp_path):
    _, notes = read(
        tmp_path,
        {"early_stopping": True, "do_sample": False, "num_beam_groups": 1, "bad_words_ids": [[3]]},
        forced_eos_token_id=2,
    )
    assert notes == [
        "not followed: early_stopping = True",
        "not followed: bad_words_ids = [[3]]",
        "not followed: forced_eos_token_id = 2",
    ]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ({"num_beams": 99}, "beam = 99"),
        ({"num_beams": "many"}, "num_beams = 'many' is not a whole number"),
        ({"length_penalty": -1.0}, "length_penalty = -1.0"),
        ({"max_length": 5, "min_length": 9}, "min_len = 8 must be below max_len = 4"),
    ],
)
def test_values_out_of_bounds(tmp_path, file, message):
    with pytest.raises(ModelError) as raised:
        read(tmp_path, file)
    assert message in str(raised.value) and str(tmp_path) in str(raised.value)
