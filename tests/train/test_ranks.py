"""Several ranks, as real processes: one process's loss curve, one branch for all, each other's checkpoints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from coloured_squares import make_data

HERE = Path(__file__).parent
# Checkpoints of a few kB.
SMALL = "train.encoder={name: vit, train: %s, patch: 16, depth: 1, width: 16, heads: 2}"
FROZEN = SMALL % "none"
STILL = "train.decoder={width: 32, embedding: 32, attention: 16, dropout: 0}"
# 21 pictures in batches of 4: the sixth batch has one, and leaves the second rank none.
LSTM = [FROZEN, "train.epochs=3", "train.batch_size=4", STILL]
TUNED = [
    "train.epochs=3",
    "train.batch_size=6",
    SMALL % "all",
    "train.encoder_frozen_epochs=1",
    "train.decoder={kind: gpt, layers: 1, width: 16, heads: 2, dropout: 0}",
    "train.label_smoothing=0.1",
    "train.ema=0.9",
]
SECOND = "train.self_critical={epochs: 2, samples: 3, warmup_steps: 2, learning_rate: 0.001, "
PHASES = [FROZEN, "train.epochs=1", "train.batch_size=4", "train.generation={max_len: 8}", STILL]
LENIENT = "guard: {window: 50, min_ended: 0, max_repeats: 1, min_length: 0, max_length: 9, min_vocabulary: 0}}"
STRICT = "guard: {window: 30, max_length: 0.61}}"
UNCACHED = "train.cache_features=false"
PHOTOS = "train.generation.consensus={samples: 0, photos: 20, views: 2}"
DROPOUT = [FROZEN, "train.epochs=3", "train.batch_size=4", "train.checkpoint_seconds=0.000001"]

JOBS = {
    "lstm on 1": (LSTM, [[1, None]]),
    "lstm on 2": (LSTM, [[2, None]]),
    "lstm on 2 in pieces": ([*LSTM, "train.accumulate=2"], [[2, None]]),
    "tuned on 1": (TUNED, [[1, None]]),
    "tuned on 2": (TUNED, [[2, None]]),
    "tuned on 3 in pieces": ([*TUNED, "train.accumulate=2"], [[3, None]]),
    "phases on 1": ([*PHASES, SECOND + LENIENT], [[1, None]]),
    "phases on 2": ([*PHASES, SECOND + LENIENT, "train.accumulate=2"], [[2, None]]),
    "guarded on 1": ([*PHASES, SECOND + STRICT], [[1, None]]),
    "guarded on 2": ([*PHASES, SECOND + STRICT], [[2, None]]),
    "in turns": (
        LSTM,
        [[2, ["stop", 1, 3]], [1, ["stop", 0, 8]], [2, ["kill", 1, 15]], [2, None]],
    ),
    "dropout": (DROPOUT, [[2, None]]),
    "dropout, cut": (DROPOUT, [[2, ["stop", 1, 2]], [2, ["kill", 0, 9]], [2, None]]),
    "photos": ([*LSTM, UNCACHED, PHOTOS], [[2, ["stop", 0, None]], [2, None]]),
    "spoilt": (LSTM, [[2, ["spoil", 1, 7]]]),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    make_data(folder / "data", {"train": 21, "val": 3})
    jobs = [{"name": name, "options": o, "runs": r} for name, (o, r) in JOBS.items()]
    root = HERE.parent.parent
    ran = subprocess.run(
        [sys.executable, str(HERE / "on_ranks.py"), str(folder / "data"), str(folder)],
        input=json.dumps(jobs),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), str(HERE)])},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return {**json.loads(ran.stdout), "said": ran.stderr}


def values(outcome, key):
    return [value for _, value in outcome[key]]


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("lstm on 1", "lstm on 2"),
        ("lstm on 1", "lstm on 2 in pieces"),
        ("tuned on 1", "tuned on 2"),
        ("tuned on 1", "tuned on 3 in pieces"),
        ("phases on 1", "phases on 2"),
    ],
)
def test_several_ranks_have_the_loss_curve_of_one(done, one, several):
    alone, together = done[one], done[several]
    assert set(together["codes"][0]) == {0}
    assert [s for s, _ in alone["loss"]] == [s for s, _ in together["loss"]]
    assert len(alone["loss"]) >= 12
    for key, tolerance in {"loss": 1e-4, "gradient_norm": 2e-3, "reward": 1e-4}.items():
        assert values(together, key) == pytest.approx(values(alone, key), rel=tolerance, abs=1e-5)
    # Adam divides by the gradient's own size, so rounding grows where a gradient is nearly zero.
    assert together["weights"] == pytest.approx(alone["weights"], rel=5e-3, abs=1e-5)
    assert values(together, "val_cider") == pytest.approx(values(alone, "val_cider"), abs=0.01)
    assert together["finished"]


def test_the_guard_sees_every_ranks_captions_and_ends_all_at_one_step(done):
    alone, together = done["guarded on 1"]["position"], done["guarded on 2"]["position"]
    assert alone["collapse"] is not None
    assert (together["collapse"], together["step"]) == (alone["collapse"], alone["step"])
    assert done["guarded on 2"]["codes"] == [[0, 0]]


def test_another_number_of_ranks_goes_on_where_the_last_stood(done):
    """Stopped by one rank's SIGTERM, a rank killed, 2 -> 1 -> 2: the curve of an uninterrupted run."""
    turns = done["in turns"]
    stopped, alone, killed, ended = turns["codes"]
    assert (stopped, alone, ended) == ([143, 143], [143], [0, 0])
    assert killed[1] == -9
    assert killed[0] == 1, "RankError: it does not wait for the dead"
    assert "RankError: rank 0 lost another rank" in done["said"]
    assert [s for s, _ in turns["loss"]] == list(range(1, 19)), "each step is logged once"
    expected = values(done["lstm on 1"], "loss")
    assert values(turns, "loss") == pytest.approx(expected, rel=1e-4)
    for step in (4, 9):  # the step in progress is finished
        assert f"stopped by SIGTERM at step {step}, of which" in done["said"]
        assert f"resuming at step {step}, in epoch {step // 6 + 1}" in done["said"]


def test_all_leave_when_one_is_to_stop_behind_the_last_step(done):
    assert done["photos"]["codes"] == [[143, 143], [0, 0]]
    assert done["photos"]["finished"]
    assert "resuming at step 18, behind the last epoch" in done["said"]


def test_two_ranks_cut_short_end_with_the_bytes_of_two_that_were_not(done):
    whole, cut = done["dropout"], done["dropout, cut"]
    assert cut["codes"][0] == [143, 143]
    assert cut["codes"][1][0] == -9
    assert cut["sha256"] == whole["sha256"]
    assert cut["loss"] == whole["loss"]


def test_every_rank_has_random_states_of_its_own(done):
    assert done["dropout"]["random"] == ["random.cpu", "random.rank1.cpu"]
    assert done["dropout"]["different_random_states"] == 2
    assert done["lstm on 1"]["random"] == ["random.cpu"]


def test_a_loss_that_is_no_number_on_one_rank_stops_all_with_its_pictures(done):
    spoilt = done["spoilt"]
    assert spoilt["codes"] == [[4, 4]]
    assert spoilt["broken"]["step"] == 7
    assert len(spoilt["broken"]["keys"]) == len(spoilt["broken"]["ids"]) == 2, "of the batch's 4"
    assert spoilt["position"]["step"] == 6, "the last checkpoint is older"


def test_only_rank_0_speaks(done):
    ended = [name for name in JOBS if done[name]["finished"] and "guarded" not in name]
    assert done["said"].count("epoch 3/3") == len(ended) == 12
    assert "Warning" not in done["said"]
    assert "epoch 3/3" in done["lstm on 2"]["logs"]["1.log"]
