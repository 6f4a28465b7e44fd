"""Promotion against a real registry, with captioners whose captions are known beforehand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_registry import candidate, decided, measured, said, settings

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import AliasMovedError, BusyError, ConfigError
from pipeline.promote import audit, judging, promote
from pipeline.promote.moves import audit_log
from pipeline.records import Decision, ScoreCard, ShardSet
from pipeline.tracking import Tracker


def events(work: Path) -> list[tuple[str, int]]:
    return [(entry.event, entry.version) for entry in audit.read(audit_log(work))]


def test_first_better_worse_and_equal_candidates(
    work: Path, shard_set: ShardSet, capsys: pytest.CaptureFixture[str]
) -> None:
    aliases = Tracker(work).aliases
    first = decided(work, shard_set, "a", 0.5)
    assert (first.promoted, first.version, first.champion_version) == (True, 1, None)
    assert aliases("captioner") == {"champion": 1}
    better = decided(work, shard_set, "b", 0.9)
    assert (better.promoted, better.version, better.champion_version) == (True, 2, 1)
    assert better.gains["cider"].p_value <= 0.05 and better.gains["cider"].low > 0
    assert aliases("captioner") == {"champion": 2, "previous": 1}
    worse = decided(work, shard_set, "c", 0.4)
    assert (worse.promoted, worse.version, worse.champion_version) == (False, 3, 2)
    assert aliases("captioner") == {"challenger": 3, "champion": 2, "previous": 1}
    copy = decided(work, shard_set, "d", 0.9)
    assert not copy.promoted and copy.gains["cider"].difference == 0
    assert aliases("captioner")["challenger"] == 4
    said_last = capsys.readouterr().err.splitlines()[-1]
    assert "captioner/4 is refused and captioner/2 stays champion, for lack of gain: " in said_last
    assert events(work) == [("promoted", 1), ("promoted", 2), ("refused", 3), ("refused", 4)]


def test_a_gain_that_may_be_chance_is_refused(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    slightly = decided(work, shard_set, "b", 0.55)
    assert not slightly.promoted and slightly.gains["cider"].difference > 0
    assert "for a gain that may be chance: " in slightly.reason
    assert decided(work, shard_set, "b", 0.55, settings(max_p_value=1.0)).promoted


def test_the_version_carries_the_decision_and_what_it_rests_on(
    work: Path, shard_set: ShardSet
) -> None:
    decided(work, shard_set, "a", 0.5)
    refused = decided(work, shard_set, "b", 0.4, settings(slice_by="place", min_slice=5))
    version = Tracker(work).versions("captioner")[1]
    assert Decision.model_validate_json(version.tags["captionmill.decision"]) == refused
    assert version.tags["captionmill.promoted"] == "False"
    assert version.tags["captionmill.shard_set"] == shard_set.fingerprint
    evidence = version.root / "evidence"
    assert Decision.load(evidence / "decision.json") == refused
    assert ScoreCard.load(evidence / "score_card.json").metrics["cider"] == 40.0
    assert (evidence / "score" / "per_image.parquet").read_bytes() == b"scores"
    assert ShardSet.load(evidence / "shard_set.json") == shard_set
    assert not list(evidence.rglob(".*"))
    assert Decision.load(Path(refused.path) / "record.json") == refused
    markdown = (evidence / "decision.md").read_text()
    for part in ("# captioner/2: refused", "| CIDEr | ", "## Guards", "outdoors", "Asked for by"):
        assert part in markdown
    stored = Tracker(work).client.get_model_version("captioner", "2")
    assert stored.description.startswith("# captioner/2\n\nRefused.")
    assert "## Data" in stored.description and "## Limits" in stored.description
    assert len(stored.description) <= 5000


def test_the_audit_log_says_who_why_and_what_moved(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5, how={"asked_by": "ann", "cause": "weekly"})
    decided(work, shard_set, "b", 0.9)
    first, second = audit.read(audit_log(work))
    assert (first.asked_by, first.why, first.before) == ("ann", "weekly", {})
    assert second.asked_by == audit.this_user()
    assert second.before == {"champion": 1}
    assert second.after == {"champion": 2, "previous": 1}
    assert second.numbers["gains"]["cider"]["p_value"] <= 0.05
    assert second.numbers["guards"]["vocabulary"] is True


def test_again_is_recognised(
    work: Path, shard_set: ShardSet, capsys: pytest.CaptureFixture[str]
) -> None:
    first, refused = decided(work, shard_set, "a", 0.5), decided(work, shard_set, "b", 0.4)
    capsys.readouterr()
    assert decided(work, shard_set, "a", 0.5) == first
    assert decided(work, shard_set, "b", 0.4) == refused
    assert capsys.readouterr().err.count("nothing new") == 2
    assert len(Tracker(work).versions("captioner")) == 2
    assert len(events(work)) == 2


def test_a_lower_bar_is_a_new_decision(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    assert not decided(work, shard_set, "b", 0.45).promoted
    easier = settings(min_gain=-200.0, max_p_value=1.0)
    assert decided(work, shard_set, "b", 0.45, easier).promoted
    assert Tracker(work).aliases("captioner") == {"champion": 2, "previous": 1}


def test_a_dry_run_prints_the_decision_and_changes_nothing(
    work: Path, shard_set: ShardSet, capsys: pytest.CaptureFixture[str]
) -> None:
    decided(work, shard_set, "a", 0.5)
    made = candidate(work, shard_set, "b", said(shard_set, 0.9))
    before = {path: path.read_bytes() for path in sorted(work.rglob("*")) if path.is_file()}
    capsys.readouterr()
    decision = promote(settings(), work, shard_set, *made, dry_run=True)
    assert decision.promoted and decision.version == 2
    assert "dry run, nothing is changed: captioner/2 becomes champion" in capsys.readouterr().err
    after = {path: path.read_bytes() for path in sorted(work.rglob("*")) if path.is_file()}
    assert after == before


def test_a_dry_run_without_a_registry_makes_none(work: Path, shard_set: ShardSet) -> None:
    (work / "mlflow.db").unlink()
    judging.measure = measured
    made = candidate(work, shard_set, "a", said(shard_set, 0.5))
    assert promote(settings(), work, shard_set, *made, dry_run=True).version == 1
    assert not (work / "mlflow.db").exists() and not (work / "promote").exists()


def in_process(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(Path(__file__).parent)])
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )


def test_another_command_finishes_what_was_begun(
    work: Path, shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(work, shard_set, "a", 0.5)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Tracker, "set_alias", stop)
        with pytest.raises(KeyboardInterrupt):
            decided(work, shard_set, "b", 0.9)
    assert Tracker(work).aliases("captioner") == {"champion": 1}
    worse = decided(work, shard_set, "c", 0.3)
    assert worse.champion_version == 2
    assert events(work) == [("promoted", 1), ("promoted", 2), ("refused", 3)]


def test_two_processes_at_once_cannot_both_win(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    shard_set.save(work / "set.json")
    script = """
import sys
from pathlib import Path
from pipeline.errors import BusyError
from pipeline.records import ShardSet
from small_registry import decided
work, name, right = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
(work / f"{name}.ready").touch()
while len(list(work.glob("*.ready"))) < 2: pass
try:
    print(decided(work, ShardSet.load(work / "set.json"), name, right).champion_version)
except BusyError:
    print("busy")
"""
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(Path(__file__).parent)])
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(work), name, right],
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, right in (("b", "0.9"), ("c", "0.95"))
    ]
    answers = [process.communicate()[0].strip() for process in running]
    wins = [entry for entry in audit.read(audit_log(work)) if entry.event == "promoted"]
    # One after the other, each sees the champion that the other left; at once, one is told so.
    assert answers.count("1") == 1, answers
    assert [entry.before.get("champion") for entry in wins[1:]] == [1, 2][: len(wins) - 1]
    assert Tracker(work).aliases("captioner")["champion"] == wins[-1].version


def test_an_alias_moved_by_hand_in_between_is_an_error(
    work: Path, shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.9)

    def meddle(*arguments: object) -> object:
        Tracker(work).set_alias("captioner", "champion", 1)
        return measured(*arguments)  # type: ignore[arg-type]

    made = candidate(work, shard_set, "c", said(shard_set, 1.0))
    monkeypatch.setattr(judging, "measure", meddle)
    with pytest.raises(AliasMovedError, match=r"was captioner/2 when .* is captioner/1 now"):
        promote(settings(), work, shard_set, *made)
    assert Tracker(work).aliases("captioner")["champion"] == 1
    assert events(work)[-1] == ("abandoned", 3)
    assert decided(work, shard_set, "c", 1.0).champion_version == 1
    assert Tracker(work).aliases("captioner") == {"champion": 3, "previous": 1}


def test_an_alias_that_a_person_moved_later_is_left_alone(
    work: Path, shard_set: ShardSet, capsys: pytest.CaptureFixture[str]
) -> None:
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.9)
    tracker = Tracker(work)
    tracker.set_alias("captioner", "champion", 1)
    decided(work, shard_set, "b", 0.9)
    assert tracker.aliases("captioner")["champion"] == 1
    assert "points at captioner/1, which is left as it is" in capsys.readouterr().err


def test_two_at_once_is_refused(work: Path, shard_set: ShardSet) -> None:
    with storage.lock(work / "promote"), pytest.raises(BusyError, match=str(os.getpid())):
        decided(work, shard_set, "a", 0.5)


def test_the_registry_deleted_means_done_again(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    shard_set.save(work / "set.json")
    (work / "mlflow.db").unlink()
    shutil.rmtree(work / "mlflow-artifacts")
    script = """
import sys
from pathlib import Path
from pipeline.records import ShardSet
from small_registry import decided
work = Path(sys.argv[1])
print(decided(work, ShardSet.load(work / "set.json"), "a", 0.5).promoted)
"""
    result = in_process(script, work)
    assert result.stdout == "True\n", result.stderr
    # Nothing else is said, by MLflow's making of its tables least of all.
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("promote captioner/1 becomes the first champion with CIDEr")


def test_scores_of_something_else_are_refused(work: Path, shard_set: ShardSet) -> None:
    captions = said(shard_set, 0.5)
    checkpoint, card = candidate(work, shard_set, "a", captions)
    _, other = candidate(work, shard_set, "b", captions)
    with pytest.raises(ConfigError, match="belongs to checkpoint b, not a"):
        promote(Config(), work, shard_set, checkpoint, other)
    control = Config.model_validate({"score": {"shuffle_images": True}})
    with pytest.raises(ConfigError, match="control"):
        promote(control, work, shard_set, checkpoint, card)
    stranger = checkpoint.model_copy(update={"shard_set": "5e7"})
    with pytest.raises(ConfigError, match="was trained with the shard set 5e7"):
        promote(Config(), work, shard_set, stranger, card)
    assert Tracker(work).versions("captioner") == []
