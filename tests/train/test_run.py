"""A whole run: what it logs, when it stops, and which model it keeps."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from coloured_squares import make_data, settings
from safetensors.torch import load_file

from pipeline import storage
from pipeline.errors import ConfigError, StoppedError, TrackingAwayError
from pipeline.metrics import Scores
from pipeline.records import Checkpoint
from pipeline.shard import shard
from pipeline.tracking import Tracker
from pipeline.tracking.runs import TrackedRun
from pipeline.train import run as run_module
from pipeline.train import train
from pipeline.train.validation import Validation


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, {"train": 24, "val": 4})
    return folder


def run_directory(record: Checkpoint) -> Path:
    return Path(record.path).parent


def test_what_is_logged(data, work):
    config = settings(data, "train.epochs=3", "train.batch_size=2", "train.sample_captions=3")
    record = train(config, work, shard(config, work))
    tracker = Tracker(work)
    run = tracker.client.get_run(record.run_id)
    assert run.data.params["data"] == record.shard_set
    assert run.data.params["schedule.kind"] == "cosine"
    wanted = {"loss", "gradient_norm", "images_per_second", "tokens_per_second"}
    wanted |= {"waiting_for_data", "learning_rate_decoder", "epoch_loss", "best_val_cider"}
    wanted |= {"val_cider", "val_bleu_4"}
    assert wanted <= set(run.data.metrics)
    assert 0 <= run.data.metrics["waiting_for_data"] <= 1
    for name, steps in {"val_cider": [12, 24, 36], "loss": [12, 20, 24, 36]}.items():
        history = tracker.client.get_metric_history(record.run_id, name)
        assert [m.step for m in history] == steps
    directory = Path(tracker.client.download_artifacts(record.run_id, ""))
    facts = json.loads((directory / "run.json").read_text())
    assert facts["data"] == record.shard_set
    assert torch.__version__.startswith(facts["packages"]["torch"])
    assert facts["settings"]["epochs"] == 3
    assert {"git_commit", "python", "device", "threads"} <= set(facts)
    assert (directory / "curves.svg").read_text().startswith("<svg")
    shown = [json.loads(p.read_text()) for p in sorted((directory / "samples").iterdir())]
    assert [epoch["epoch"] for epoch in shown] == [1, 2, 3]
    pictures = [[c["id"] for c in epoch["captions"]] for epoch in shown]
    assert pictures[0] == pictures[1] == pictures[2], "the same pictures every epoch"
    assert len(pictures[0]) == 3


def test_a_moved_work_directory_is_told_before_features_are_made(data, work):
    with Tracker(work).run("train", "first", "f1"):
        pass
    moved = work.with_name("moved")
    work.rename(moved)
    config = settings(data)
    with pytest.raises(ConfigError, match="was made elsewhere"):
        train(config, moved, shard(config, moved))
    assert not list(moved.glob("features/*"))


@pytest.mark.parametrize("replaced", [b"no database" * 1000, None])
def test_a_database_that_is_lost_amid_a_run_does_not_stop_it(
    data, work, monkeypatch, capfd, replaced
):
    other = work.with_name("other")
    Tracker(other).client.search_experiments()  # an empty database
    samples = run_module.RunLog.samples

    def lose(*arguments):
        samples(*arguments)
        (work / "mlflow.db").write_bytes(replaced or (other / "mlflow.db").read_bytes())

    monkeypatch.setattr(run_module.RunLog, "samples", lose)
    config = settings(data, "train.epochs=2")
    record = train(config, work, shard(config, work))
    said = capfd.readouterr().err
    assert len(list((run_directory(record) / "samples").iterdir())) == 2, "both epochs"
    assert said.count("metrics are kept and delivered later") == 1
    assert "Traceback" not in said
    assert "SQL" not in said


def test_an_epochs_captions_and_curves_are_there_when_its_checkpoint_is(data, work, monkeypatch):
    config = settings(data, "train.epochs=2")
    shards = shard(config, work)
    with monkeypatch.context() as patch:
        patch.setattr(run_module.RunLog, "committed", lambda _: os.kill(os.getpid(), 9))
        pid = os.fork()
        if pid == 0:
            try:
                train(config, work, shards)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    (samples,) = work.glob("train/*/samples")
    (samples / f"{storage.TEMPORARY}of-a-killed-commit").touch()
    record = train(config, work, shards)
    names = sorted(path.name for path in samples.iterdir())
    assert names == ["0001.json", "0002.json"]
    artifacts = Tracker(work).client.list_artifacts(record.run_id, "samples")
    assert [Path(artifact.path).name for artifact in artifacts] == names


def test_metrics_that_waited_are_delivered_by_the_command_again(data, work, capsys):
    config = settings(data, "train.epochs=1")
    shards = shard(config, work)
    record = train(config, work, shards)
    # As if the server had gone away before the first of them.
    (run_directory(record) / "delivered.json").unlink()
    capsys.readouterr()
    assert train(config, work, shards) == record
    assert "metrics and captions delivered" in capsys.readouterr().err
    history = Tracker(work).client.get_metric_history(record.run_id, "val_cider")
    assert len(history) == 1, "sent twice, there once"
    assert train(config, work, shards) == record
    assert "delivered" not in capsys.readouterr().err


@pytest.mark.parametrize("refused", [("log_text", "log_points"), ("log_text",)])
def test_what_waited_for_a_server_that_was_away_arrives_when_it_is_back(
    data, work, monkeypatch, capsys, refused
):
    config = settings(data, "train.epochs=3")
    shards = shard(config, work)
    with monkeypatch.context() as away:
        for request in refused:
            answer = getattr(TrackedRun, request)

            def until_the_second_epoch(run, *what, answer=answer):
                later = list(work.glob("train/*/samples/0002.json"))
                return False if later else answer(run, *what)

            away.setattr(TrackedRun, request, until_the_second_epoch)
        record = train(config, work, shards)
    assert capsys.readouterr().err.count("metrics are kept and delivered later") == 1
    client = Tracker(work).client

    def arrived():
        return [Path(a.path).name for a in client.list_artifacts(record.run_id, "samples")]

    assert arrived() == ["0001.json"]
    with monkeypatch.context() as away:

        def refuse(*_, **__):
            raise TrackingAwayError("MLflow does not answer")

        away.setattr(Tracker, "run", refuse)
        assert train(config, work, shards) == record, "it needs no server"
    assert "metrics still wait" in capsys.readouterr().err
    assert train(config, work, shards) == record
    assert arrived() == ["0001.json", "0002.json", "0003.json"]
    curves = Path(client.download_artifacts(record.run_id, "curves.svg")).read_text()
    assert curves == (run_directory(record) / "curves.svg").read_text()
    assert len(client.get_metric_history(record.run_id, "val_cider")) == 3


def test_a_compiler_that_is_missing_stops_it_before_any_work(data, work, monkeypatch):
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", (None, "/nonexistent/g++"))
    config = settings(data, "train.compile=true")
    shards = shard(config, work)
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler .* set train.compile = false"):
        train(config, work, shards)
    assert not list(work.glob("features/*"))


def test_sigterm_that_ends_the_compiler_too_stops_it_and_is_no_failure(data, work, monkeypatch):
    config = settings(data, "train.compile=true")
    shards = shard(config, work)

    def compiler_killed(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        raise RuntimeError("g++ ended by signal 15")

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "require_compiler", lambda *_: None)
        patch.setattr(run_module.Stepper, "__call__", compiler_killed)
        with pytest.raises(StoppedError, match="while a step was compiled; run the same command"):
            train(config, work, shards)
        patch.setattr(run_module.Stepper, "__call__", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(config, work, shards)


class Judge:
    """Gives the epochs the CIDEr that the test wants, whatever they say."""

    def __init__(self, monkeypatch, ciders):
        self.ciders, self.models = list(ciders), []
        evaluate = Validation.evaluate

        def judged(validation, saved, features):
            found = evaluate(validation, saved, features)
            self.models.append({k: v.clone() for k, v in saved.model.state_dict().items()})
            corpus = {**found.scores.corpus, "cider": self.ciders.pop(0) / 100}
            scores = Scores(**{**vars(found.scores), "corpus": corpus})
            object.__setattr__(found, "scores", scores)
            return found

        monkeypatch.setattr(run_module.Validation, "evaluate", judged)


def test_it_stops_early_and_keeps_the_best(data, work, monkeypatch):
    judge = Judge(monkeypatch, [5, 9, 9, 8, 99])
    config = settings(data, "train.epochs=9", "train.early_stop=2", "train.ema=0.9")
    record = train(config, work, shard(config, work))
    assert (record.epoch, record.step, record.validation_cider) == (2, 6, pytest.approx(9))
    assert judge.ciders == [99], "the fifth epoch was never trained"
    kept = load_file(Path(record.path) / "model.safetensors")
    # What was validated, the moving average, is what is kept.
    assert all(torch.equal(kept[name], judge.models[1][name]) for name in kept)


@pytest.mark.parametrize(("mean_scores", "kept"), [(10, "mean"), (8.9, "best")])
def test_the_mean_of_epochs_is_kept_where_it_is_better(data, work, monkeypatch, mean_scores, kept):
    judge = Judge(monkeypatch, [9, 5, 7, mean_scores])
    config = settings(data, "train.epochs=3", "train.average={count: 2, of: best}")
    record = train(config, work, shard(config, work))
    found = load_file(Path(record.path) / "model.safetensors")
    best, _, third = judge.models[:3]
    for name, tensor in found.items():
        wanted = (best[name] + third[name]) / 2 if kept == "mean" else best[name]
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, wanted)
    assert record.validation_cider == pytest.approx(max(9, mean_scores))
    described = json.loads((Path(record.path) / "captioner.json").read_text())["provenance"]
    assert described.get("averaged_epochs") == ([1, 3] if kept == "mean" else None)
