"""`train.devices`: what torchrun is started for, what the user reads of it, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from coloured_squares import make_data, settings

from pipeline import storage
from pipeline.errors import BusyError, ConfigError, RankError, StoppedError
from pipeline.shard import shard
from pipeline.train import launch as module
from pipeline.train import train
from pipeline.train.launch import _explain, devices_asked_for

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, {"train": 9, "val": 3})
    return folder


@pytest.fixture
def nothing_starts(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(module.subprocess, "Popen", refuse)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (
            "train.batch_size=9",
            "train.batch_size = 9 is not divisible by 2 ranks; take 8, or another",
        ),
        (
            "train.self_critical={batch_size: 7}",
            "train.self_critical.batch_size = 7 is not divisible",
        ),
        ("train.validation_split=test", "no pictures in the split 'test'"),
        ("train.encoder.name=resnet19", "unknown encoder 'resnet19'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    data, tmp_path, nothing_starts, option, named
):
    config = settings(data, "train.devices=2", option)
    shards = shard(config, tmp_path)
    with pytest.raises(ConfigError, match=named):
        train(config, tmp_path, shards)
    assert not (tmp_path / "train").exists()


def test_another_run_is_noticed_before_anything_starts(data, tmp_path, nothing_starts):
    config = settings(data, "train.devices=2")
    shards = shard(config, tmp_path)
    with pytest.raises(AssertionError, match="a process was started"):
        train(config, tmp_path, shards)
    with storage.lock(next(tmp_path.glob("train/*"))), pytest.raises(BusyError):
        train(config, tmp_path, shards)


@pytest.mark.parametrize(
    ("options", "cuda", "expected"),
    [
        (["train.devices=auto", "device=cpu"], 4, 1),
        (["train.devices=auto", "device=auto"], 0, 1),
        (["train.devices=auto", "device=auto"], 4, 4),
        (["train.devices=auto", "device=cuda:1"], 4, 1),
        (["train.devices=3", "device=cuda"], 4, 3),
        (["train.devices=3", "device=cpu"], 0, 3),
        (["train.devices=5", "device=cuda"], 4, "this machine has 4 CUDA devices"),
        (["train.devices=2", "device=cuda:1"], 4, "contradict each other"),
        (["train.devices=2", "device=auto"], 0, "device = cpu to share its cores"),
    ],
)
def test_how_many_ranks_a_machine_gets(monkeypatch, options, cuda, expected):
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(module.torch.backends.mps, "is_available", lambda: False)
    config = settings("", *options)
    if isinstance(expected, int):
        assert devices_asked_for(config) == expected
    else:
        with pytest.raises(ConfigError, match=expected):
            devices_asked_for(config)


def word(kind: str, message: str, when: float, known: bool = True) -> str:
    return json.dumps({"kind": kind, "message": message, "time": when, "known": known})


def test_what_a_rank_met_is_told_before_what_the_others_lost(tmp_path):
    (tmp_path / "0.json").write_text(word("RankError", "rank 0 lost another", 1.0))
    (tmp_path / "1.json").write_text(word("ShardError", "train-0.tar is cut short", 2.0))
    (tmp_path / "failures.json").write_text('[{"rank": 0, "exit_code": 1}]')
    error = _explain(tmp_path, False, 1)
    assert (type(error).__name__, str(error)) == ("ShardError", "train-0.tar is cut short")


def test_a_bug_in_a_rank_is_told_with_the_end_of_its_log(tmp_path):
    (tmp_path / "0.json").write_text(word("RankError", "rank 0 lost another", 1.0))
    (tmp_path / "1.json").write_text(word("KeyError", "'width'", 2.0, known=False))
    (tmp_path / "1.log").write_text("\n".join(f"line {n}" for n in range(30)))
    error = _explain(tmp_path, False, 1)
    assert isinstance(error, RankError)
    assert "rank 1 failed: KeyError: 'width'" in str(error)
    assert str(tmp_path / "1.log") in str(error)
    assert str(error).endswith("line 28\n  line 29")
    assert "line 12" not in str(error)


def test_ended_by_sigterm_before_it_could_say_so_it_is_stopped_too(tmp_path):
    (tmp_path / "failures.json").write_text('[{"rank": 1, "exit_code": -15}]')
    assert isinstance(_explain(tmp_path, True, 1), StoppedError)
    unasked = _explain(tmp_path, False, 1)
    assert isinstance(unasked, RankError)
    assert "rank 1 was killed by SIGTERM" in str(unasked)


def test_torchruns_own_failure_is_quoted(tmp_path):
    (tmp_path / "torchrun.log").write_text("no such option: --nproc\n")
    assert "no such option: --nproc" in str(_explain(tmp_path, False, 2))


HEED = """
import threading
from pipeline.train.__main__ import _heed_the_stage
threading.Thread(target=_heed_the_stage, daemon=True).start()
print("here", flush=True)
threading.Event().wait()
"""


@pytest.mark.parametrize(("byte", "status"), [(b"", 1), (b".", -signal.SIGTERM)])
def test_ranks_end_with_their_stage_and_stop_when_it_asks(byte, status):
    command = [sys.executable, "-c", HEED]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, env=environment, **pipes)
    assert process.stdout.readline() == b"here\n"
    process.stdin.write(byte)
    if byte:
        process.stdin.flush()
    else:
        process.stdin.close()
    assert process.wait(timeout=300) == status


class Command:
    """`captionmill train` on two ranks of real torchrun; MLflow is hidden, its start is slow."""

    def __init__(self, config, work: Path) -> None:
        hidden = work / "hidden"
        hidden.mkdir(exist_ok=True)
        raised = "raise ModuleNotFoundError('hidden', name='mlflow')"
        (hidden / "mlflow.py").write_text(raised)
        (work / "settings.yaml").write_text(config.to_yaml())
        options = ["-c", str(work / "settings.yaml"), "--work", str(work)]
        code = "import sys; from flows.cli import main; main(sys.argv[1:])"
        self.work = work
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "train", *options],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(hidden)])},
            stderr=subprocess.PIPE,
            text=True,
        )

    def steps(self) -> list[int]:
        return [int(path.name) for path in self.work.glob("train/*/checkpoints/[0-9]*")]

    def wait_for_a_step_after(self, number: int) -> None:
        deadline = time.monotonic() + 600
        while max(self.steps(), default=0) <= number:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def pid_of(self, rank: int) -> int:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes()
                variables = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            ours = str(self.work).encode() in command and b"pipeline.train\0" in command
            if ours and f"RANK={rank}".encode() in variables:
                return int(entry.name)
        raise AssertionError(f"no rank {rank}")

    def ended(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=600)
        return self.process.returncode, said


def test_sigterm_and_a_rank_that_is_killed(data, tmp_path):
    """One after the other in the same run, since starting torchrun is what takes the time."""
    config = settings(data, "train.epochs=10000", "train.devices=2", "train.batch_size=2")
    shard(config, tmp_path)

    command = Command(config, tmp_path)
    command.wait_for_a_step_after(0)
    command.process.send_signal(signal.SIGTERM)
    code, said = command.ended()
    assert code == 143, said
    step = max(command.steps())
    *lines, last = said.splitlines()
    assert last.startswith(f"stopped by SIGTERM at step {step}, of which there is a checkpoint")
    assert all(line.split()[0] in ("train", "encode", "track") for line in lines), said
    assert "train   2 ranks, logs in " in said

    command = Command(config, tmp_path)
    command.wait_for_a_step_after(step)
    os.kill(command.pid_of(1), signal.SIGKILL)
    code, said = command.ended()
    assert code == 1, said
    assert f"train   resuming at step {step}, in epoch" in said
    assert "error: rank 1 was killed by SIGKILL (the system does so when memory runs out)" in said
    log = next(tmp_path.glob("train/*/ranks/1.log"))
    assert f"{log} ends:\n  " in said
    assert "Traceback" not in said
    assert f"resuming at step {step}, in epoch" in log.read_text()
    with storage.lock(log.parents[1]):  # nobody is left
        pass
