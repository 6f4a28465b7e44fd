from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import BusyError, ConfigError
from pipeline.promote import champion as champion_module
from pipeline.promote import promote
from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet
from pipeline.tracking import Tracker


def shard_set(work: Path) -> ShardSet:
    return ShardSet(
        manifest=str(work / "set.json"),
        fingerprint="5e7",
        samples={"train": 9, "val": 2},
        captions={"train": 45, "val": 10},
        bad={},
        report=str(work / "report.jsonl"),
    )


def candidate(
    work: Path, name: str, cider: float, signature: str = "sig", references: str = "refs"
) -> tuple[Checkpoint, ScoreCard]:
    """A checkpoint's files and its score card, as `train` and `score` leave them."""
    model, scores = work / "train" / name / "model", work / "score" / name
    for directory in (model, scores):
        directory.mkdir(parents=True, exist_ok=True)
    (model / "model.safetensors").write_bytes(name.encode())
    (model / "captioner.json").write_text("{}")
    (scores / "per_image.parquet").write_bytes(b"scores")
    (scores / ".lock").write_text("1")
    checkpoint = Checkpoint(
        path=str(model),
        fingerprint=name,
        shard_set="5e7",
        epoch=1,
        step=10,
        validation_cider=cider,
        run_id=None,
    )
    card = ScoreCard(
        path=str(scores),
        fingerprint=f"card-{name}-{signature}",
        checkpoint=name,
        split="val",
        references=references,
        images=2,
        metrics={"bleu_4": cider / 4, "cider": cider},
        signature=signature,
        run_id=None,
    )
    return checkpoint, card


def decided(
    work: Path, name: str, cider: float, config: Config | None = None, **card: str
) -> Decision:
    return promote(config or Config(), work, shard_set(work), *candidate(work, name, cider, **card))


@pytest.fixture
def rescored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Stands in for scoring a champion again: 30 CIDEr; the versions asked for."""
    asked: list[str] = []

    def rescore(
        config: Any, work: Any, shard_set: Any, card: Any, champion: Any
    ) -> dict[str, float]:
        asked.append(champion.ref)
        return {"bleu_4": 7.5, "cider": 30.0}

    monkeypatch.setattr(champion_module, "rescore", rescore)
    return asked


def test_first_better_and_worse_candidates(
    work: Path, rescored: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    aliases = Tracker(work).aliases
    first = decided(work, "a", 40.0)
    assert (first.promoted, first.version, first.champion_version) == (True, 1, None)
    assert aliases("captioner") == {"champion": 1}
    better = decided(work, "b", 41.0)
    assert (better.promoted, better.version, better.champion_version) == (True, 2, 1)
    assert better.champion == {"bleu_4": 10.0, "cider": 40.0}
    assert aliases("captioner") == {"champion": 2, "previous": 1}
    worse = decided(work, "c", 39.0)
    assert (worse.promoted, worse.version, worse.champion_version) == (False, 3, 2)
    assert aliases("captioner") == {"challenger": 3, "champion": 2, "previous": 1}
    equal = decided(work, "d", 41.0)
    assert not equal.promoted
    assert aliases("captioner")["challenger"] == 4
    assert rescored == []
    assert "captioner/4 is refused and captioner/2 stays champion" in capsys.readouterr().err


def test_the_version_carries_the_decision_and_what_it_rests_on(work: Path) -> None:
    decided(work, "a", 40.0)
    refused = decided(work, "b", 39.0)
    version = Tracker(work).versions("captioner")[1]
    assert Decision.model_validate_json(version.tags["captionmill.decision"]) == refused
    assert version.tags["captionmill.promoted"] == "False"
    assert version.tags["captionmill.shard_set"] == "5e7"
    assert "gain -1.0" in version.tags["captionmill.reason"]
    evidence = version.directory / "evidence"
    assert Decision.load(evidence / "decision.json") == refused
    assert ScoreCard.load(evidence / "score_card.json").metrics["cider"] == 39.0
    assert (evidence / "score" / "per_image.parquet").read_bytes() == b"scores"
    assert ShardSet.load(evidence / "shard_set.json").fingerprint == "5e7"
    assert (evidence / "config.yaml").read_text() == Config().to_yaml()
    assert not list(evidence.rglob(".*"))
    assert Decision.load(Path(refused.path) / "record.json") == refused


def test_again_is_recognised(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, refused = decided(work, "a", 40.0), decided(work, "b", 39.0)
    capsys.readouterr()
    assert decided(work, "a", 40.0) == first
    assert decided(work, "b", 39.0) == refused
    assert capsys.readouterr().err.count("nothing new") == 2
    assert len(Tracker(work).versions("captioner")) == 2


def test_a_lower_bar_is_a_new_decision(work: Path) -> None:
    decided(work, "a", 40.0)
    assert not decided(work, "b", 39.0).promoted
    easier = Config.model_validate({"promote": {"min_gain": -2.0}})
    assert decided(work, "b", 39.0, easier).promoted
    assert Tracker(work).aliases("captioner") == {"champion": 2, "previous": 1}


@pytest.mark.parametrize("changed", [{"signature": "other"}, {"references": "other"}])
def test_scores_that_cannot_be_compared_are_made_again(
    work: Path, rescored: list[str], changed: dict[str, str]
) -> None:
    decided(work, "a", 40.0)
    decision = decided(work, "b", 31.0, **changed)
    assert rescored == ["captioner/1"]
    assert decision.promoted
    assert decision.champion == {"bleu_4": 7.5, "cider": 30.0}


@pytest.mark.parametrize("other", [{"beam": 5}, {"dtype": "bfloat16"}])
def test_other_beams_or_numbers_make_scores_incomparable(
    work: Path, rescored: list[str], other: dict[str, object]
) -> None:
    decided(work, "a", 40.0)
    decided(work, "b", 31.0, Config.model_validate({"score": other}))
    assert rescored == ["captioner/1"]


def test_a_champion_is_scored_again_once(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline import evaluate, predict, shards

    calls: list[Path] = []
    evaluation = SimpleNamespace(
        references="refs", signature="new", percent=lambda: {"bleu_4": 1.0, "cider": 20.0}
    )
    monkeypatch.setattr(predict, "load_directory", lambda path, **_: calls.append(path))
    monkeypatch.setattr(shards, "ShardReader", lambda _set, split: split)
    monkeypatch.setattr(evaluate, "evaluate_captioner", lambda *_, **__: evaluation)
    decided(work, "a", 40.0)
    champion = Tracker(work).versions("captioner")[0]
    for name in ("b", "c"):
        assert not decided(work, name, 19.0, signature="new").promoted
    assert calls == [champion.directory]
    evaluation.references = "elsewhere"
    with pytest.raises(ConfigError, match="run `captionmill score` again"):
        decided(work, "d", 19.0, signature="newer")


def test_the_registry_deleted_means_done_again(work: Path) -> None:
    script = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_promote import decided
print(decided(Path(sys.argv[1]), "a", 40.0).promoted)
"""
    decided(work, "a", 40.0)
    (work / "mlflow.db").unlink()
    shutil.rmtree(work / "mlflow-artifacts")
    result = in_process(script, work)
    assert result.stdout == "True\n", result.stderr
    # Nothing else is said, by MLflow's making of its tables least of all.
    assert result.stderr == "promote captioner/1 becomes the first champion with CIDEr 40.0\n"


def in_process(script: str, work: Path) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-c", script, str(work), str(Path(__file__).parent)]
    return subprocess.run(
        arguments, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("step", ["register", "attach", "tag", "set_alias"])
def test_killed_at_any_step_a_rerun_repairs_it(work: Path, step: str) -> None:
    decided(work, "a", 40.0)
    killed = in_process(
        f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from pipeline.tracking import Tracker
from test_promote import decided
original = Tracker.{step}
def die(self, *arguments, **named):
    original(self, *arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
Tracker.{step} = die
decided(Path(sys.argv[1]), "b", 41.0)
""",
        work,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    decision = decided(work, "b", 41.0)
    tracker = Tracker(work)
    assert (decision.promoted, decision.version, decision.champion_version) == (True, 2, 1)
    assert tracker.aliases("captioner") == {"champion": 2, "previous": 1}
    version = tracker.versions("captioner")[1]
    assert json.loads(version.tags["captionmill.decision"])["promoted"]
    assert (version.directory / "evidence" / "decision.json").exists()
    assert len(tracker.versions("captioner")) == 2


def test_an_alias_that_a_person_moved_is_left_alone(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    decided(work, "a", 40.0)
    decided(work, "b", 41.0)
    tracker = Tracker(work)
    tracker.set_alias("captioner", "champion", 1)
    decided(work, "b", 41.0)
    assert tracker.aliases("captioner")["champion"] == 1
    assert "points at captioner/1, which is left as it is" in capsys.readouterr().err


def test_two_at_once_is_refused(work: Path) -> None:
    with storage.lock(work / "promote"), pytest.raises(BusyError, match=str(os.getpid())):
        decided(work, "a", 40.0)


def test_scores_of_something_else_are_refused(work: Path) -> None:
    checkpoint, _ = candidate(work, "a", 40.0)
    _, other = candidate(work, "b", 41.0)
    with pytest.raises(ConfigError, match="belongs to checkpoint b, not a"):
        promote(Config(), work, shard_set(work), checkpoint, other)
    control = Config.model_validate({"score": {"shuffle_images": True}})
    with pytest.raises(ConfigError, match="control"):
        decided(work, "a", 40.0, control)
    assert Tracker(work).versions("captioner") == []
