"""What orchestration costs: the chain by direct calls, and by the `retrain` deployment of a stack.

    PYTHONPATH=tests/stack python tests/benchmarks/orchestration_overhead.py [--pairs 5]

Starts the servers and the worker of docker/compose.yaml as processes (as `make test-stack` does),
does the chain's work once, and then, in turn, the same chain with nothing new

  directly     a process that calls the stages one after the other, without Prefect;
  deployed     a run of the deployment, from the request to the API until the run has ended.

No stage has work to do then, so that what the second takes longer is orchestration, and nothing of
it is hidden by the noise of a training. It does not grow with a stage's length: a stage's task talks
to the server when it begins and when it ends, not between. So a run of ten minutes pays the same
seconds, of which the share is printed. Both read the same registry and the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

STAGES = ("shard-dataset", "find-reason", "train-captioner", "score-captioner", "promote-captioner")
RUN_SECONDS = 600.0


def direct(config: str, overrides: list[str], work: Path) -> None:
    """What `flows.retrain.run_chain` does, without Prefect; prints the seconds of each stage."""
    from pipeline import train as training
    from pipeline.config import load_config
    from pipeline.promote import promote
    from pipeline.promote.evaluation_set import check_evaluation_set
    from pipeline.promote.need import reasons, with_start
    from pipeline.score import score
    from pipeline.shard import shard

    settings = load_config(config, overrides)
    began = time.monotonic()
    shard_set = shard(settings, work)
    check_evaluation_set(settings, work, shard_set)
    settings = with_start(settings, work, training.fingerprint(settings, shard_set))
    reasons(settings, work, shard_set, done=True, tables=[])
    checkpoint = training.train(settings, work, shard_set)
    card = score(settings, work, shard_set, checkpoint)
    promote(settings, work, shard_set, checkpoint, card)
    print(json.dumps({"stages": time.monotonic() - began}))


def seconds_between(earlier: str, later: str) -> float:
    """Of two times as the API gives them."""
    first, last = (datetime.fromisoformat(text) for text in (earlier, later))
    return (last - first).total_seconds()


def measure(pairs: int) -> list[dict[str, float]]:
    """Seconds of each pair."""
    from demo_project import GPU_WORKER, TINY, Project
    from running_stack import ROOT, Stack

    found = []
    with tempfile.TemporaryDirectory(prefix="captionmill-overhead-") as place:
        stack = Stack(Path(place) / "stack")
        try:
            stack.up(GPU_WORKER)
            project = Project(stack)
            project.completed(project.retrain(), 600)
            own = [sys.executable, __file__, "--direct", json.dumps(TINY), str(project.work)]
            environment = {**stack.client(), "PYTHONPATH": str(ROOT)}
            for _ in range(pairs):
                began = time.monotonic()
                done = subprocess.run(
                    own, env=environment, cwd=stack.work, stdout=subprocess.PIPE, check=True
                )
                whole = time.monotonic() - began
                run = project.completed(project.retrain(), 600)
                tasks = project.api.tasks(run["id"])
                found.append(costs(whole, json.loads(done.stdout)["stages"], run, tasks))
                print(json.dumps({k: round(v, 2) for k, v in found[-1].items()}), file=sys.stderr)
        finally:
            stack.down()
    return found


def costs(
    whole: float, stages: float, run: dict[str, Any], tasks: dict[str, list[dict[str, Any]]]
) -> dict[str, float]:
    """Where the seconds of a pair went."""
    first = min(tasks[name][0]["start_time"] for name in STAGES)
    deployed = seconds_between(run["created"], run["end_time"])
    before = seconds_between(run["created"], first) - (whole - stages)
    return {
        "direct": whole,
        "deployed": deployed,
        "orchestration": deployed - whole,
        "of it before the first stage": before,
        "of it from there on": deployed - whole - before,
    }


def main() -> None:
    """Measure, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--direct", nargs=2, metavar=("OVERRIDES", "WORK"))
    given = parser.parse_args()
    if given.direct:
        direct("configs/demo.yaml", json.loads(given.direct[0]), Path(given.direct[1]))
        return
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    found = measure(given.pairs)
    medians = {key: statistics.median(pair[key] for pair in found) for key in found[0]}
    for key, value in medians.items():
        print(f"{key:<32}{value:8.2f} s")
    cost = medians["orchestration"]
    print(f"{'a stage, of ' + str(len(STAGES)):<32}{cost / len(STAGES):8.2f} s")
    print(f"{'of a run of 10 minutes':<32}{100 * cost / RUN_SECONDS:8.2f} %")


if __name__ == "__main__":
    main()
