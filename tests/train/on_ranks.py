"""Run by test_ranks.py: the same training by one process and by several, stopped and taken up again.

A process of its own, so that the imports are paid once: each rank is a fork of it, with the variables
that torchrun would set. Nothing is tracked: MLflow's start would cost more than these trainings.
Reads [{name, options, runs}] and prints {name: what became of it}, as JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import traceback
import types
import warnings
from pathlib import Path

import torch
from coloured_squares import settings
from safetensors.torch import load_file

import pipeline.train.run  # noqa: F401  once, before the forks
from pipeline import train as stage
from pipeline.errors import CaptionmillError
from pipeline.shard import shard
from pipeline.tracking import runs
from pipeline.train import ending, log, rank, train
from pipeline.train.step import Stepper

runs.installed = lambda: False
warnings.simplefilter("ignore")  # as the command does
log.LOG_STEPS = 1
# Finished runs keep their checkpoints here: everything in the last one is compared.
stage.shutil = rank.shutil = types.SimpleNamespace(rmtree=lambda *_, **__: None)


def at_step(number: int, then) -> None:
    """In this process, call `then` before the numbered step."""
    step = Stepper.__call__

    def stepped(stepper, batch, at):
        if at == number:
            then(stepper)
        return step(stepper, batch, at)

    Stepper.__call__ = stepped


def at_the_photos(then) -> None:
    """In this process, call `then` whenever training photos are read at the end."""
    load = ending.load_pixels

    def loaded(*given):
        then(None)
        return load(*given)

    ending.load_pixels = loaded


def spoil(stepper) -> None:
    """The loss of this rank's next step is no number."""
    loss = stepper._loss

    def spoilt(batch, piece):
        found = loss(batch, piece)
        return type(found)(
            found.total * float("nan"), found.entropy_sum * float("nan"), found.words
        )

    stepper._loss = spoilt


DEEDS = {
    "stop": lambda _: os.kill(os.getpid(), signal.SIGTERM),
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "spoil": spoil,
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def train_together(config, work: Path, world: int, deed: list | None) -> list[int]:
    """Exit codes of the ranks; `deed` is [what, rank, step], behind the steps where that is None."""
    shards, port, pids = shard(config, work), free_port(), []
    for number in range(world):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                torch.set_num_threads(1)
                if world > 1:
                    numbers = {"RANK": number, "LOCAL_RANK": number, "MASTER_PORT": port}
                    numbers |= {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
                    os.environ.update({name: str(value) for name, value in numbers.items()})
                    os.environ["MASTER_ADDR"] = "127.0.0.1"
                if deed is not None and deed[1] == number:
                    then = DEEDS[deed[0]]
                    at_the_photos(then) if deed[2] is None else at_step(deed[2], then)
                train(config, work, shards)
                status = 0
            except CaptionmillError as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                status = error.exit_code
            except Exception:  # noqa: BLE001
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        pids.append(pid)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]


def outcome(work: Path) -> dict[str, object]:
    """Loss and gradient norm of every step, scores, and what the last checkpoint holds."""
    directory = next(work.glob("train/*"))
    points = [json.loads(line) for line in (directory / "metrics.jsonl").open()]
    found: dict[str, object] = {}
    for key in ("loss", "gradient_norm", "reward", "sample_tokens", "val_cider", "epoch_loss"):
        found[key] = [[p["step"], p["value"]] for p in points if p["key"] == key]
    last = max((directory / "checkpoints").glob("[0-9]*"))
    tensors = load_file(last / "training.safetensors")
    weights = load_file(last / "model.safetensors")
    found["random"] = sorted(name for name in tensors if name.startswith("random"))
    states = [tensors[name].numpy().tobytes() for name in found["random"]]
    found["different_random_states"] = len(set(states))
    found["weights"] = [float(weights[name].double().norm()) for name in sorted(weights)]
    files = sorted(path for path in last.iterdir() if path.name != "captioner.json")
    found["sha256"] = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    found["position"] = json.loads((last / "training.json").read_text())["position"]
    found["finished"] = (directory / "record.json").exists()
    broken = directory / "nonfinite.json"
    found["broken"] = json.loads(broken.read_text()) if broken.exists() else None
    found["logs"] = {path.name: path.read_text() for path in (directory / "ranks").glob("*.log")}
    return found


if __name__ == "__main__":
    data, work = sys.argv[1], Path(sys.argv[2])
    said = {}
    for job in json.load(sys.stdin):
        config, place = settings(data, *job["options"]), work / job["name"]
        codes = [train_together(config, place, *run) for run in job["runs"]]
        said[job["name"]] = {"codes": codes, **outcome(place)}
    print(json.dumps(said))
