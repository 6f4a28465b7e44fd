"""Checkpoints: the newest good one, what is kept, and what is refused."""

from __future__ import annotations

import shutil

import pytest
import torch
from coloured_squares import make_data, settings

from pipeline.config_recipe import AverageConfig
from pipeline.errors import ModelError
from pipeline.shard import shard
from pipeline.train.checkpoints import Checkpoints
from pipeline.train.position import EpochScore, Position
from pipeline.train.run import TrainingRun


@pytest.fixture(scope="module")
def make_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    make_data(folder, {"train": 6, "val": 3})

    def make(*options):
        config = settings(folder, *options)
        return TrainingRun(config, folder, shard(config, folder), folder / "run")

    return make


def test_a_damaged_checkpoint_is_passed_over(make_run, tmp_path, capsys):
    state = make_run("train.ema=0.9").state
    store = Checkpoints(tmp_path / "checkpoints", keep=5)
    for step in (1, 2):
        store.save(state, Position(step=step))
    whole = {path.name: path.read_bytes() for path in store.path(2).iterdir()}
    for name in ("training.safetensors", "model.safetensors", "training.json", "captioner.json"):
        data = whole[name]
        # Cut short, one bit changed amid the tensors, gone.
        middle = data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 4])
        for damaged in (data[:-7], middle + data[len(middle) :], b"[1]", None):
            if name.endswith("json") and damaged is not None and len(damaged) == len(data):
                continue
            target = store.path(2) / name
            target.unlink() if damaged is None else target.write_bytes(damaged)
            assert store.resume(state).step == 1
            assert "000000002 is damaged and passed over" in capsys.readouterr().err
        target.write_bytes(data)
        assert store.resume(state).step == 2
    # Half a directory, as a kill amid its making leaves it, is nothing.
    shutil.copytree(store.path(1), store.directory / ".tmp-0123")
    assert store.resume(state).step == 2
    # What follows is kept, and the damaged one of a later step does not stand in for it.
    (store.path(2) / "model.safetensors").write_bytes(b"")
    position = store.resume(state)
    Checkpoints(store.directory, keep=1).save(state, position)
    assert [path.name for path in store.directory.iterdir()] == [store.path(1).name]


def test_a_best_epoch_that_is_lost_is_told_of_when_the_run_goes_on(make_run, tmp_path, capsys):
    state, store = make_run().state, Checkpoints(tmp_path / "checkpoints", keep=1)
    best, later = EpochScore(epoch=1, step=1, cider=9), EpochScore(epoch=2, step=2, cider=8)
    store.save(state, Position(step=1, epoch=1, scores=[best]))
    store.save(state, Position(step=2, epoch=2, scores=[best, later]))
    assert store.resume(state).step == 2
    assert "cannot end" not in capsys.readouterr().err
    (store.path(1) / "model.safetensors").write_bytes(b"")
    assert store.resume(state).step == 2
    said = capsys.readouterr().err
    assert "unless later epochs are better, this run cannot end" in said
    assert "the checkpoint of epoch 1 is lost" in said and "damaged" in said


def test_a_moving_average_and_the_weights_come_back(make_run, tmp_path):
    run, other = make_run("train.ema=0.9"), make_run("train.ema=0.9")
    with torch.no_grad():
        for parameter in run.state.saved.model.decoder.parameters():
            parameter.add_(1.0)
    run.state.average.update(0)
    store = Checkpoints(tmp_path, keep=1)
    store.save(run.state, Position(step=1))
    store.resume(other.state)
    for name, tensor in run.state.saved.model.state_dict().items():
        assert torch.equal(tensor, other.state.saved.model.state_dict()[name])
    for name, tensor in run.state.average.tensors.items():
        assert torch.equal(tensor, other.state.average.tensors[name])


def test_another_architecture_is_refused(make_run, tmp_path):
    store = Checkpoints(tmp_path, keep=1)
    store.save(make_run().state, Position(step=1))
    other = make_run("train.decoder={kind: gpt, layers: 1, width: 16, heads: 2}").state
    with pytest.raises(ModelError, match="000000001 is of another architecture"):
        store.resume(other)


def scores(*ciders):
    return [EpochScore(epoch=n, step=10 * n, cider=c) for n, c in enumerate(ciders, 1)]


@pytest.mark.parametrize(
    ("average", "kept"),
    [
        (AverageConfig(), [10, 30, 31]),
        (AverageConfig(count=2, of="best"), [10, 30, 31]),
        (AverageConfig(count=3, of="last"), [10, 20, 30, 31]),
    ],
)
def test_what_is_pruned(make_run, tmp_path, average, kept):
    """The newest `keep`, the best epoch's, and those to be averaged stay."""
    state = make_run().state
    store = Checkpoints(tmp_path, keep=2, average=average)
    ciders = (9.0, 3.0, 5.0)
    for step in (10, 15, 20, 25, 30, 31):
        done = step // 10
        store.save(state, Position(step=step, epoch=done, scores=scores(*ciders[:done])))
    assert sorted(int(path.name) for path in store.directory.iterdir()) == kept


def test_where_the_second_phase_started_is_kept(make_run, tmp_path):
    state, store = make_run().state, Checkpoints(tmp_path, keep=1)
    position = Position()
    for epoch, cider in enumerate((9.0, 7.0, 10.0, 11.0, 8.0), 1):
        position.step, position.epoch = 10 * epoch, epoch
        position.scores = [*position.scores, EpochScore(epoch=epoch, step=10 * epoch, cider=cider)]
        if epoch == 2:
            assert position.reference is None
            position.begin_second_phase()
        store.save(state, position)
    assert position.reference.epoch == 1
    assert sorted(int(path.name) for path in store.directory.iterdir()) == [10, 40, 50]


def test_the_position_counts_epochs_without_gain():
    position = Position(epoch=4, scores=scores(1.0, 7.0, 7.0, 5.0))
    assert position.best == EpochScore(epoch=2, step=20, cider=7.0), "the earliest of equals"
    assert position.epochs_without_gain == 2
    assert [s.epoch for s in position.ranked(2, "best")] == [2, 3]
    assert [s.epoch for s in position.ranked(2, "last")] == [4, 3]
    assert Position().epochs_without_gain == 0
