"""Flows on a real temporary Prefect server, with stand-ins for the stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

STAND_INS = """
import json, sys
from pathlib import Path
work = Path(sys.argv[1])
from flows.embedded import configure
server = configure(work)
import flows.demo, flows.retrain
from flows import caption, promote, retrain, score, shard, train
from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet, TableReport
from pipeline.errors import DataError
server.wait()
scores = dict.fromkeys(["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"], 12.5)
a_set = ShardSet(manifest="m", fingerprint="s", samples={"train": 3}, captions={"train": 15}, bad={}, report="r")
a_checkpoint = Checkpoint(path="p", fingerprint="c", shard_set="s", epoch=1, step=2, validation_cider=None, run_id=None)
a_card = ScoreCard(path="p", fingerprint="f", checkpoint="c", split="val", references="refs", images=2,
                   metrics=scores, signature="sig", run_id=None)
a_decision = Decision(path="p", fingerprint="d", model="captioner", version=1, promoted=True, reason="it is better",
                      candidate=scores, champion=None, champion_version=None, min_gain=0.0, signature="sig")
a_table = TableReport(table="t", model="captioner/1", recipe="r", discovered=1, captioned=1, failed={}, skipped={},
                      units=1, units_reused=0, seconds=1.0, images_per_second=1.0)
from pipeline.promote.need import Reason
retrain.check_evaluation_set = lambda *_: None
retrain.reasons = lambda *_, **__: [Reason(word="new-shards", sentence="100 new pictures")]
retrain.say = lambda *_: None
shard.stage.shard = lambda *_: a_set
train.stage.train = lambda *_: a_checkpoint
score.stage.score = lambda *_: a_card
promote.stage.promote = lambda *_, **__: a_decision
caption.direct.caption_archives = lambda *_, **__: a_table
flows.demo.stage.generate = lambda *_: None
"""


def in_process(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What Prefect knows after a retraining with a shaky registry, and a demo that fails."""
    script = (
        STAND_INS
        + """
failures = [ConnectionError("registry away"), ConnectionError("registry away")]
def shaky(*_, **__):
    if failures: raise failures.pop()
    return a_decision
promote.stage.promote = shaky
retrain.promote_captioner = promote.promote_captioner.with_options(retry_delay_seconds=0)
settings = work / "flickr8k.yaml"
settings.write_text("train: {epochs: 3}")
records = retrain.retrain(str(settings), ["train.seed=1"], str(work), cause="schedule")

asked = []
def refuse(*_, **__):
    asked.append(True)
    raise DataError("no such thing")
promote.stage.promote = refuse
try:
    flows.demo.demo(None, [], str(work))
    error = None
except DataError as caught:
    error = str(caught)

from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    found = {
        "flows": {run.name.rsplit("-", 2)[0]: run.state.type.value for run in client.read_flow_runs()},
        "tasks": sorted({run.name.rsplit("-", 1)[0] for run in client.read_task_runs()}),
        "artifacts": [[a.key, a.data, a.description] for a in client.read_artifacts() if a.key],
    }
print(json.dumps({"records": records, "error": error, "asked": len(asked), **found}))
"""
    )
    work = tmp_path_factory.mktemp("flows") / "new" / "work"
    work.mkdir(parents=True)
    done = in_process(script, work)
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr, "work": work}


def test_a_run_returns_its_records_and_is_named_after_its_settings_and_its_reason(
    runs: dict[str, Any],
) -> None:
    assert runs["records"]["decision"]["reason"] == "it is better"
    assert list(runs["records"]) == ["shard_set", "checkpoint", "score_card", "decision"]
    assert runs["flows"] == {
        "retrain-flickr8k-schedule-new-shards": "COMPLETED",
        "demo-new-shards": "FAILED",
    }


def test_tasks_are_verbs_and_nouns(runs: dict[str, Any]) -> None:
    assert runs["tasks"] == [
        "find-reason",
        "generate-dataset",
        "promote-captioner",
        "publish-report",
        "score-captioner",
        "shard-dataset",
        "train-captioner",
    ]


def test_an_error_a_user_must_mend_is_not_tried_again(runs: dict[str, Any]) -> None:
    assert (runs["error"], runs["asked"]) == ("no such thing", 1)


def test_reasons_are_kept_for_the_run_that_did_not_decide_alone(runs: dict[str, Any]) -> None:
    (kept,) = (runs["work"] / "retrain").glob("*.why.json")
    assert [reason["word"] for reason in json.loads(kept.read_text())["reasons"]] == ["new-shards"]


def test_the_report_is_an_artifact(runs: dict[str, Any]) -> None:
    (artifact,) = runs["artifacts"]
    key, text, description = artifact
    assert (key, description) == ("captionmill-promotion", "it is better")
    assert "# captioner/1: promoted" in text
    assert "| CIDEr | 12.5 |" in text


def test_nothing_but_our_own_lines_is_said(runs: dict[str, Any]) -> None:
    assert runs["stderr"] == ""
    assert {path.name for path in runs["work"].iterdir()} == {"prefect", "flickr8k.yaml", "retrain"}


def test_the_server_ends_with_a_killed_command(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from flows.embedded import configure
server = configure(Path(sys.argv[1]))
server.wait()
print(server.process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = in_process(script, tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    server = int(done.stdout)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and alive(server):
        time.sleep(0.05)
    assert not alive(server)


def alive(process: int) -> bool:
    """Whether it runs: an orphan that has ended may stay a zombie where nobody reaps it."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_server_of_the_users_is_respected(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
os.environ["PREFECT_API_URL"] = "http://127.0.0.1:1/api"
from flows.embedded import configure
assert configure(Path(sys.argv[1])) is None
assert "PREFECT_HOME" not in os.environ
"""
    done = in_process(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_server_that_cannot_start_is_told_with_its_log(tmp_path: Path) -> None:
    (tmp_path / "prefect" / "prefect.db").mkdir(parents=True)
    script = """
import sys
from pathlib import Path
from flows.embedded import configure
from pipeline.errors import CaptionmillError
server = configure(Path(sys.argv[1]))
try:
    server.wait()
except CaptionmillError as error:
    print(error)
"""
    done = in_process(script, tmp_path)
    assert f"its log is {tmp_path / 'prefect' / 'server.log'}" in done.stdout, done.stderr
    assert (tmp_path / "prefect" / "server.log").stat().st_size > 0
