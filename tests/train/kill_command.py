"""Trains once in peace, and once with SIGKILLs at random moments; compares what is left.

    python tests/train/kill_command.py --kills 6 --seconds 20 60 WORK -- \\
        captionmill train -c configs/flickr8k_best.yaml --set train.epochs=1 \\
        --set train.self_critical.epochs=1 --set train.checkpoint_seconds=10

The command, a `train`, runs with `--work WORK/whole`, then with `--work WORK/killed`, after `shard`
of the same settings: there its processes die after so many seconds, drawn anew each time, until
they died so often, and then it finishes.
Prints a Markdown table, and ends with 1 where the models or the validation scores differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

LEFT_OUT = "captioner.json"
"""It says when and by which run the model was made."""


def run(command: list[str], work: Path, seconds: float | None) -> int:
    """Run in a process group of its own, kill all of it after `seconds`; the exit status."""
    process = subprocess.Popen([*command, "--work", str(work)], start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()


def left(work: Path) -> dict[str, str]:
    """The digests of a training's model, and its scores by epoch."""
    (record,) = work.glob("train/*/record.json")
    found = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted((record.parent / "model").iterdir())
        if path.name != LEFT_OUT
    }
    points = [json.loads(line) for line in (record.parent / "metrics.jsonl").open()]
    scores = [f"{point['value']:.6f}" for point in points if point["key"] == "val_cider"]
    return {**found, "CIDEr of the epochs": ", ".join(scores)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seconds", type=float, nargs=2, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("work", type=Path)
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    shard = ["shard" if word == "train" else word for word in given.command]
    for name in ("whole", "killed"):
        if status := run(shard, given.work / name, None):
            return status
    began = time.monotonic()
    if status := run(given.command, given.work / "whole", None):
        return status
    peace, moments, kills = time.monotonic() - began, random.Random(given.seed), 0
    while kills < given.kills:
        status = run(given.command, given.work / "killed", moments.uniform(*given.seconds))
        if status == 0:
            print(f"it finished after {kills} kills: give shorter --seconds", file=sys.stderr)
            return 1
        if status != -signal.SIGKILL:
            return status
        kills += 1
    if status := run(given.command, given.work / "killed", None):
        return status
    whole, killed = left(given.work / "whole"), left(given.work / "killed")
    print(
        f"{kills} kills; in peace it took {peace:.0f} s\n\n| | in peace | killed |\n|---|---|---|"
    )
    for name, value in whole.items():
        print(f"| {name} | {value} | {killed[name]} |")
    same = whole == killed
    print("\nthe same, byte for byte" if same else "\nNOT the same")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
