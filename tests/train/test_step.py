"""A step's pieces, freezing by epoch, precision, and what stops a run."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from coloured_squares import make_data, settings

from pipeline.errors import ConfigError, ModelError
from pipeline.shard import shard
from pipeline.train.loader import Loader
from pipeline.train.run import TrainingRun
from pipeline.train.schedule import Schedule
from pipeline.train.step import Stepper

TUNED = (
    "train.encoder.train=1",
    "train.decoder={width: 32, embedding: 32, attention: 16, dropout: 0}",
)
# Steps that move nothing, whose gradients are not cut.
STILL = (
    "train.clip_norm=1e9",
    "train.learning_rate=1e-12",
    "train.encoder_learning_rate=1e-12",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("step")
    make_data(folder, {"train": 12, "val": 3})
    return folder


def make(folder, *options, name="run"):
    config = settings(folder, *TUNED, "train.batch_size=6", *options)
    run = TrainingRun(config, folder, shard(config, folder), folder / name)
    run.loader = Loader(run.reader, run.encoded, run.state.saved.transform, config.train)
    run.step = Stepper(run.state, config.train, Schedule(config.train, 2), run.device, cached=False)
    run.step.begin_epoch(0)
    return run


def weights(run):
    return {k: v.clone() for k, v in run.state.saved.model.state_dict().items()}


def test_pieces_make_the_whole_batchs_step(folder):
    whole, pieces = make(folder), make(folder, "train.accumulate=4")
    for number in (0, 1):
        one = whole.step(whole.loader.load(0, number), number)
        other = pieces.step(pieces.loader.load(0, number), number)
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.gradient_norm == pytest.approx(one.gradient_norm, rel=1e-3)
        assert other.words == one.words


def test_the_ranks_gradients_add_up_to_the_whole_batchs(folder):
    """What a distributed run sums: each rank's own step is on its part, divided by the whole."""
    run = make(folder, *STILL)
    total = {}
    for rank in range(3):
        part = Loader(
            run.reader, run.encoded, run.state.saved.transform, run.settings, rank=rank, world=3
        )
        run.step(part.load(0, 0), 0)
        for name, parameter in run.state.saved.model.named_parameters():
            if parameter.grad is not None:
                total[name] = total.get(name, 0) + parameter.grad.clone()
    run = make(folder, *STILL)
    run.step(run.loader.load(0, 0), 0)
    for name, parameter in run.state.saved.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(total[name], parameter.grad, atol=1e-4, rtol=1e-3)


def test_the_encoder_moves_from_its_epoch_on(folder):
    run = make(folder, "train.encoder_frozen_epochs=1", "train.encoder.freeze_batch_norm=false")
    batch, before = run.loader.load(0, 0), weights(run)
    run.step(batch, 0)
    frozen = weights(run)
    moved = {name for name in before if not torch.equal(before[name], frozen[name])}
    assert moved
    assert all(name.startswith("decoder.") for name in moved), "nor its batch statistics"
    run.step.begin_epoch(1)
    run.step(batch, 1)
    moved = {name for name in before if not torch.equal(before[name], weights(run)[name])}
    assert any(name.startswith("encoder.trained") and "running_mean" in name for name in moved)
    assert any(name.startswith("encoder.trained") and "conv1.weight" in name for name in moved)


def test_bf16_steps_close_to_fp32_and_keeps_fp32_weights(folder):
    exact, rough = make(folder), make(folder, "train.precision=bf16")
    one, other = (run.step(run.loader.load(0, 0), 0) for run in (exact, rough))
    assert other.loss == pytest.approx(one.loss, rel=0.02)
    assert other.loss != one.loss
    assert {p.dtype for p in rough.state.saved.model.parameters()} == {torch.float32}


def test_fp16_needs_a_gpu(folder):
    with pytest.raises(ConfigError, match="fp16 needs a CUDA device, not cpu"):
        make(folder, "train.precision=fp16")


@pytest.mark.parametrize("broken", ["weights", "gradient"])
def test_a_loss_that_is_no_number_stops_with_the_batchs_ids(folder, broken, monkeypatch):
    run = make(folder, name=broken)
    batch, before = run.loader.load(0, 0), weights(run)
    with torch.no_grad():
        parameter = next(run.state.saved.model.decoder.parameters())
        if broken == "weights":
            parameter.fill_(float("nan"))
        else:
            parameter.register_hook(lambda gradient: gradient * float("inf"))
    outcome = run.step(batch, 0)
    with pytest.raises(ModelError, match=r"step 0; its pictures are listed in .*nonfinite\.json"):
        run._advance(batch, outcome)
    found = json.loads((run.directory / "nonfinite.json").read_text())
    assert found["keys"] == batch.keys
    assert found["ids"] == [run.reader.info(picture)["id"] for picture in batch.pictures]
    if broken == "gradient":
        now = weights(run)
        assert all(torch.equal(before[name], now[name]) for name in before), "no step was taken"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_step_is_the_same_and_quiet(folder, capfd):
    plain, compiled = make(folder, *STILL), make(folder, *STILL, "train.compile=true")
    for number in (0, 1):
        expected = plain.step(plain.loader.load(0, number), number)
        outcome = compiled.step(compiled.loader.load(0, number), number)
        assert outcome.loss == pytest.approx(expected.loss, rel=1e-4)
        assert outcome.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-3)
        assert outcome.words == expected.words
    assert "torch" not in capfd.readouterr().err
