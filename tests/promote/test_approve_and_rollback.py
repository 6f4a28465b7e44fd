from __future__ import annotations

from pathlib import Path

import pytest
from small_registry import decided, settings

from pipeline.errors import AliasMovedError, ConfigError, ModelNotFoundError, WeightsError
from pipeline.promote import approve, audit, rollback
from pipeline.promote.keep import read_decision
from pipeline.promote.listing import list_versions
from pipeline.promote.moves import audit_log
from pipeline.records import ShardSet
from pipeline.tracking import Tracker

ASKING = settings(require_approval=True)


def test_a_better_candidate_waits_until_a_person_lets_it_through(
    work: Path, shard_set: ShardSet, capsys: pytest.CaptureFixture[str]
) -> None:
    decided(work, shard_set, "a", 0.5)
    waiting = decided(work, shard_set, "b", 0.9, ASKING)
    assert (waiting.promoted, waiting.waiting) == (False, True)
    assert waiting.reason.startswith("captioner/2 may become champion: CIDEr ")
    assert waiting.sentence.endswith("; it waits for `captionmill approve captioner/2 --by NAME`")
    tracker = Tracker(work)
    assert tracker.aliases("captioner") == {"challenger": 2, "champion": 1}
    approved = approve(work, "captioner", alias="challenger", by="ann", reason="I looked")
    assert (approved.promoted, approved.approved_by) == (True, "ann")
    assert approved.sentence == approved.reason == waiting.reason
    assert tracker.aliases("captioner") == {"champion": 2, "previous": 1}
    version = tracker.versions("captioner")[1]
    assert read_decision(version) == approved
    assert "approved by ann: I looked" in (version.root / "evidence" / "decision.md").read_text()
    described = tracker.client.get_model_version("captioner", "2").description
    assert "Approved by ann" in described
    last = audit.read(audit_log(work))[-1]
    assert (last.event, last.approved_by, last.why) == ("approved", "ann", "I looked")
    assert last.numbers["gains"]["cider"]["p_value"] <= 0.05
    capsys.readouterr()
    assert approve(work, "captioner", version=2, by="ann") == approved
    assert decided(work, shard_set, "b", 0.9, ASKING) == approved
    assert capsys.readouterr().err.count("nothing new") == 2
    assert len(audit.read(audit_log(work))) == 3


def test_only_what_waits_can_be_approved(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.4)
    with pytest.raises(ConfigError, match="does not wait for approval: it was refused"):
        approve(work, "captioner", version=2, by="ann")
    with pytest.raises(ConfigError, match="cannot be empty"):
        approve(work, "captioner", version=2, by=" ")
    with pytest.raises(ModelNotFoundError, match="captioner/7"):
        approve(work, "captioner", version=7, by="ann")
    overruled = approve(work, "captioner", version=2, by="ann", reason="I know", overrule=True)
    assert overruled.promoted
    assert Tracker(work).aliases("captioner") == {"champion": 2, "previous": 1}


def test_a_candidate_that_met_another_champion_cannot_be_approved(
    work: Path, shard_set: ShardSet
) -> None:
    decided(work, shard_set, "a", 0.3)
    decided(work, shard_set, "b", 0.6, ASKING)
    decided(work, shard_set, "c", 0.9)
    with pytest.raises(AliasMovedError, match=r"compared with captioner/1, .* captioner/3 now"):
        approve(work, "captioner", version=2, by="ann")
    assert Tracker(work).aliases("captioner")["champion"] == 3


def test_a_version_that_was_never_decided_about(work: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "captioner.json").write_text("{}")
    Tracker(work).register("captioner", tmp_path / "model", None)
    with pytest.raises(ConfigError, match="never decided about"):
        approve(work, "captioner", version=1, by="ann")


def test_rollback_returns_to_the_champion_before(work: Path, shard_set: ShardSet) -> None:
    for name, right in (("a", 0.2), ("b", 0.5), ("c", 0.9)):
        assert decided(work, shard_set, name, right).promoted
    tracker = Tracker(work)
    back = rollback(work, "captioner", by="ann", reason="it sees dogs everywhere")
    assert (back.version, back.champion) == (3, 2)
    assert tracker.aliases("captioner") == {"champion": 2, "previous": 1}
    tag = tracker.versions("captioner")[2].tags["captionmill.rolled_back"]
    assert tag.endswith("by ann: it sees dogs everywhere")
    last = audit.read(audit_log(work))[-1]
    assert (last.event, last.version, last.asked_by) == ("rolled back", 3, "ann")
    assert (last.before["champion"], last.after["champion"]) == (3, 2)
    rollback(work, "captioner", by="ann", reason="older still")
    assert tracker.aliases("captioner") == {"champion": 1}
    with pytest.raises(ModelNotFoundError, match=r"none was before it .*--to: captioner/2"):
        rollback(work, "captioner", by="ann", reason="no more")
    rollback(work, "captioner", by="ann", reason="the middle one", to=2)
    assert tracker.aliases("captioner")["champion"] == 2
    # Who is back is not taken back any more.
    states = {row.version: row.decision for row in list_versions(work, "captioner")}
    assert states == {1: "rolled back", 2: "promoted", 3: "rolled back"}


def test_a_rollback_that_was_stopped_and_is_run_again_goes_back_once(
    work: Path, shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, right in (("a", 0.2), ("b", 0.5), ("c", 0.9)):
        decided(work, shard_set, name, right)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Tracker, "set_alias", stop)
        with pytest.raises(KeyboardInterrupt):
            rollback(work, "captioner", by="ann", reason="rude captions")
    back = rollback(work, "captioner", by="bob", reason="rude captions, again")
    assert (back.version, back.champion, back.by) == (3, 2, "ann")
    assert Tracker(work).aliases("captioner") == {"champion": 2, "previous": 1}
    # Where another version is asked for, it is gone to after that.
    with monkeypatch.context() as patched:
        patched.setattr(Tracker, "set_alias", stop)
        with pytest.raises(KeyboardInterrupt):
            rollback(work, "captioner", by="ann", reason="worse")
    assert rollback(work, "captioner", by="ann", reason="the last", to=3).champion == 3


def test_what_was_rolled_back_stays_away_until_a_person_says_otherwise(
    work: Path, shard_set: ShardSet
) -> None:
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.9)
    rollback(work, "captioner", by="ann", reason="rude captions")
    assert decided(work, shard_set, "b", 0.9).promoted  # known; the aliases stay
    assert Tracker(work).aliases("captioner")["champion"] == 1
    again = decided(work, shard_set, "b", 0.9, settings(min_gain=0.1))
    assert not again.promoted
    assert "rolled back (it was rolled back: " in again.reason and "rude captions" in again.reason
    approve(work, "captioner", version=2, by="ann", reason="mended", overrule=True)
    assert Tracker(work).aliases("captioner")["champion"] == 2


def test_a_damaged_version_is_not_gone_back_to(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.9)
    first = Tracker(work).versions("captioner")[0]
    (first.directory / "model.safetensors").write_bytes(b"rot")
    with pytest.raises(WeightsError, match=r"captioner/1 cannot become champion: .* damaged"):
        rollback(work, "captioner", by="ann", reason="why not")
    assert Tracker(work).aliases("captioner")["champion"] == 2


def test_rolling_back_needs_a_champion_another_version_and_a_reason(
    work: Path, shard_set: ShardSet
) -> None:
    with pytest.raises(ModelNotFoundError, match="no champion yet"):
        rollback(work, "captioner", by="ann", reason="r")
    decided(work, shard_set, "a", 0.5)
    with pytest.raises(ModelNotFoundError, match="it is the only version"):
        rollback(work, "captioner", by="ann", reason="r")
    with pytest.raises(ConfigError, match="is the champion; there is nothing"):
        rollback(work, "captioner", by="ann", reason="r", to=1)
    with pytest.raises(ConfigError, match="--reason"):
        rollback(work, "captioner", by="ann", reason="")
