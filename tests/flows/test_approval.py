"""A flow run that waits for a person: suspended, its process free, and resumed by `approve`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys
from pathlib import Path
work = Path(sys.argv[1])
from flows.embedded import configure
server = configure(work)
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from flows import models, promote
from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet
server.wait()
scores = dict.fromkeys(["bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider"], 12.5)
promote.find_shard_set = lambda *_: ShardSet(manifest="m", fingerprint="s", samples={}, captions={}, bad={}, report="r")
promote.find_checkpoint = lambda *_: Checkpoint(path="p", fingerprint="c", shard_set="s", epoch=1, step=2,
    validation_cider=None, run_id=None)
promote.find_score_card = lambda *_: ScoreCard(path="p", fingerprint="f", checkpoint="c", split="val", references="refs",
    images=2, metrics=scores, signature="sig", run_id=None)
decision = Decision(path="p", fingerprint="d", model="captioner", version=2, promoted=False, waiting=True, reason="it waits",
    candidate=scores, champion=None, champion_version=None, min_gain=0.0, signature="sig")
seen = []
def stage(*_, flow_run, **__):
    seen.append(flow_run)
    return decision
promote.stage.promote = stage
with get_client(sync_client=True) as client:
    flow = client.create_flow(promote.promote)
    deployment = client.create_deployment(flow_id=flow, name="promote")
    client.create_deployment(flow_id=flow, name="follows")
    on_promotion = ["promote/follows"]
    parameters = {"work": str(work), "on_promotion": on_promotion}
    run = client.create_flow_run_from_deployment(deployment, parameters=parameters)
    states = []
    def go():
        found = client.read_flow_run(run.id)
        try:
            run_flow(promote.promote, flow_run=found, parameters=parameters, return_type="state")
        except Pause:
            pass  # which ends a worker's process
        states.append(client.read_flow_run(run.id).state.name)
    go()
    decision = decision.model_copy(update={"promoted": True, "waiting": False, "approved_by": "ann"})
    models.resume_run(str(run.id))
    states.append(client.read_flow_run(run.id).state.type.value)
    go()
    models.resume_run(str(run.id))  # an end is not resumed
    models.resume_run("00000000-0000-0000-0000-000000000000")
    (told,) = work.glob("promote/d/announced.json")
    promote.announce_champion.fn(told, decision, on_promotion)  # an answer that was lost
    followers = [
        found.parameters for found in client.read_flow_runs() if found.idempotency_key is not None
    ]
    print(json.dumps({"states": states, "told": seen == [str(run.id)] * 2, "followers": followers}))
"""


def test_the_run_of_a_deployment_waits_suspended_and_goes_on_after_approval(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["states"] == ["Suspended", "SCHEDULED", "Completed"]
    assert found["told"]
    assert found["followers"] == [{"refresh": True}]
