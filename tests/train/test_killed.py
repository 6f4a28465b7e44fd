"""Exact resume: killed or stopped at any moment, a run ends with the bytes of an uninterrupted one."""

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

from pipeline.shard import shard

HERE = Path(__file__).parent
FAST = ["train.checkpoint_seconds=0.000001", "train.batch_size=6"]
TRAININGS = {
    "frozen CNN + LSTM": (
        "train.epochs=5",
        "train.augment.flip=true",
        "train.early_stop=2",
        "train.schedule={kind: step, every_epochs: 1, factor: 0.5}",
    ),
    "fine-tuned CNN + LSTM, unfreezing, averages": (
        "train.encoder.train=1",
        "train.encoder_frozen_epochs=1",
        "train.encoder.freeze_batch_norm=false",
        "train.epochs=3",
        "train.ema=0.9",
        "train.average={count: 3, of: last}",
        "train.accumulate=2",
    ),
    "ViT + GPT, augmented": (
        "train.encoder={name: vit, train: all, patch: 8, depth: 1, width: 16, heads: 2, dropout: 0.1}",
        "train.decoder={kind: gpt, layers: 1, width: 16, heads: 2}",
        "train.tokenizer={kind: bpe}",
        "train.augment={crop: 0.2, colour: 0.2, flip: true}",
        "train.captions_per_image=1",
        "train.epochs=4",
        "train.ema=0.95",
    ),
    "two phases, LSTM, averages, a reference": (
        "train.epochs=2",
        "train.ema=0.9",
        "train.generation={max_len: 8, consensus: {samples: 3, photos: 20, views: 2}}",
        "train.self_critical={epochs: 3, samples: 3, warmup_steps: 2, learning_rate: 0.001, "
        "batch_size: 8, dropout: true, guard: {window: 50, min_ended: 0, max_repeats: 1, "
        "min_length: 0, max_length: 9, min_vocabulary: 0}}",
    ),
    "two phases, GPT, a fine-tuned ViT, a guard that stops": (
        "train.encoder={name: vit, train: all, patch: 8, depth: 1, width: 16, heads: 2}",
        "train.decoder={kind: gpt, layers: 1, width: 16, heads: 2}",
        "train.epochs=2",
        "train.accumulate=2",
        "train.generation={max_len: 8}",
        "train.self_critical={epochs: 3, samples: 2, baseline: greedy, "
        "guard: {window: 60, max_length: 0.61}}",
    ),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    make_data(folder, {"train": 24, "val": 4})
    return folder


def environment() -> dict[str, str]:
    root = HERE.parent.parent
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(HERE)])}


@pytest.mark.slow
@pytest.mark.parametrize("options", TRAININGS.values(), ids=TRAININGS.keys())
def test_killed_at_random_it_ends_with_the_same_bytes(data, tmp_path, options):
    command = [sys.executable, HERE / "train_and_kill.py", data, tmp_path, "8", *FAST, *options]
    arguments = [str(part) for part in command]
    done = subprocess.run(arguments, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["kills"] >= 8
    assert found["whole"]["repeated"] == 0
    for cut in found["cuts"]:
        assert cut == found["whole"]


STOP = """
import sys
from pipeline.tracking import runs
runs.installed = lambda: False
from flows.cli import main
main(sys.argv[1:])
"""


def test_sigterm_writes_a_checkpoint_and_ends_with_143(data, tmp_path):
    config = settings(data, "train.epochs=400", "train.checkpoint_seconds=3600")
    shard(config, tmp_path)
    (tmp_path / "settings.yaml").write_text(config.to_yaml())
    options = ["-c", str(tmp_path / "settings.yaml"), "--work", str(tmp_path)]
    command = [sys.executable, "-c", STOP, "train", *options]
    process = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("train/*/checkpoints/[0-9]*")):  # an epoch's: it is on its way
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 143
    step = max(int(path.name) for path in tmp_path.glob("train/*/checkpoints/[0-9]*"))
    last = said.splitlines()[-1]
    assert last.startswith(f"stopped by SIGTERM at step {step}, of which there is a checkpoint")
