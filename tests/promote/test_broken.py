"""Registries that somebody has been at: deleted versions, gone files, damaged records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small_registry import decided, said, settings

from pipeline.errors import ConfigError, DataError, ModelNotFoundError, WeightsError
from pipeline.promote import approve, audit, rollback
from pipeline.promote.evaluation_set import present_set
from pipeline.promote.listing import list_versions, show_version
from pipeline.promote.moves import audit_log
from pipeline.records import ShardSet
from pipeline.tracking import Tracker


def test_a_version_without_files_is_listed_and_shown(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    root = Tracker(work).versions("captioner")[0].root
    (root / "evidence" / "shard_set.json").write_text("{")
    damaged = show_version(work, "captioner", version=1)
    assert damaged.shard_set is None and damaged.decision == "promoted"
    shutil.rmtree(root)
    shown = show_version(work, "captioner", alias="champion")
    assert shown.directory == "gone; its evidence stays"
    assert shown.record is not None and shown.record.promoted
    assert [row.version for row in list_versions(work, "captioner")] == [1]


def test_a_version_whose_tags_somebody_changed_is_listed(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    Tracker(work).tag_version("captioner", 1, {"cider": "high", "decision": "yes"})
    (row,) = list_versions(work, "captioner")
    assert (row.decision, row.cider) == ("undecided", None)


def test_rolling_back_passes_over_a_deleted_version(work: Path, shard_set: ShardSet) -> None:
    for name, right in (("a", 0.2), ("b", 0.5), ("c", 0.9)):
        decided(work, shard_set, name, right)
    Tracker(work).client.delete_model_version("captioner", "1")
    assert rollback(work, "captioner", by="ann", reason="r").champion == 2
    assert Tracker(work).aliases("captioner") == {"champion": 2}


def test_the_previous_version_deleted_is_an_error_that_names_others(
    work: Path, shard_set: ShardSet
) -> None:
    for name, right in (("a", 0.2), ("b", 0.5), ("c", 0.9)):
        decided(work, shard_set, name, right)
    Tracker(work).client.delete_model_version("captioner", "2")
    with pytest.raises(ModelNotFoundError, match="--to: captioner/1"):
        rollback(work, "captioner", by="ann", reason="r")
    with pytest.raises(ModelNotFoundError, match=r"captioner/2; captioner has versions 1, 3"):
        rollback(work, "captioner", by="ann", reason="r", to=2)
    assert rollback(work, "captioner", by="ann", reason="r", to=1).champion == 1


def test_what_is_damaged_cannot_be_approved(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.9, settings(require_approval=True))
    version = Tracker(work).versions("captioner")[1]
    card = (version.evidence / "score_card.json").read_bytes()
    (version.evidence / "score_card.json").unlink()
    with pytest.raises(DataError, match=r"evidence of captioner/2 is missing .*score_card\.json"):
        approve(work, "captioner", version=2, by="ann")
    (version.evidence / "score_card.json").write_bytes(card)
    weights = version.directory / "model.safetensors"
    sound = weights.read_bytes()
    weights.write_bytes(b"rot")
    with pytest.raises(WeightsError, match=r"captioner/2 cannot become champion: .* damaged"):
        approve(work, "captioner", version=2, by="ann")
    assert Tracker(work).aliases("captioner")["champion"] == 1
    assert [entry.event for entry in audit.read(audit_log(work))] == ["promoted", "waiting"]
    weights.write_bytes(sound)
    assert approve(work, "captioner", version=2, by="ann").promoted


def test_a_version_that_was_taken_back_does_not_return_as_the_first(
    work: Path, shard_set: ShardSet
) -> None:
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.9)
    rollback(work, "captioner", by="ann", reason="rude captions")
    Tracker(work).set_alias("captioner", "champion", None)
    again = decided(work, shard_set, "b", 0.9)
    assert not again.promoted
    assert again.reason.startswith("captioner/2 is refused, for rolled back (it was rolled back: ")


def test_an_unfinished_move_of_a_deleted_version_is_dropped_and_told(
    work: Path,
    shard_set: ShardSet,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    decided(work, shard_set, "a", 0.5)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Tracker, "set_alias", stop)
        with pytest.raises(KeyboardInterrupt):
            decided(work, shard_set, "b", 0.9)
    Tracker(work).client.delete_model_version("captioner", "2")
    decided(work, shard_set, "c", 0.1)
    assert "a move of captioner's aliases that was begun is not finished" in capsys.readouterr().err
    assert Tracker(work).aliases("captioner") == {"champion": 1, "challenger": 3}
    assert not list((work / "promote").glob("pending-*"))


def test_a_pinned_set_that_cannot_be_read_is_an_error_until_somebody_names_another(
    work: Path, shard_set: ShardSet
) -> None:
    decided(work, shard_set, "a", 0.5)
    Tracker(work).tag_model("captioner", {"evaluation_set": "of another release"})
    with pytest.raises(DataError, match="cannot be read by this release"):
        decided(work, shard_set, "b", 0.9)
    now = present_set(settings(), shard_set).fingerprint
    assert decided(work, shard_set, "b", 0.9, settings(evaluation_set=now)).promoted
    assert not decided(work, shard_set, "c", 0.1).promoted


def test_a_gone_pinned_set_names_the_present_one(
    work: Path, shard_set: ShardSet, tmp_path: Path
) -> None:
    first = decided(work, shard_set, "a", 0.5)
    assert first.evaluation_set is not None
    gone = first.evaluation_set.model_copy(
        update={
            "fingerprint": "0" * 16,
            "shard_set": shard_set.model_copy(update={"manifest": str(tmp_path / "gone.json")}),
        }
    )
    Tracker(work).tag_model("captioner", {"evaluation_set": gone.model_dump_json()})
    now = present_set(settings(), shard_set).fingerprint
    with pytest.raises(DataError, match=rf"is gone: .*promote\.evaluation_set = {now}"):
        decided(work, shard_set, "b", 0.9)


@pytest.mark.parametrize(
    "reason", ["zwei\u2028Zeilen\x85drei", "日本語 🐶 | `x`", 'a "b" \\n \n c']
)
def test_a_reason_of_any_characters_is_one_line_of_the_log(
    work: Path, shard_set: ShardSet, reason: str
) -> None:
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.9)
    rollback(work, "captioner", by="Zoë", reason=reason)
    last = audit.read(audit_log(work))[-1]
    assert (last.why, last.asked_by) == (reason, "Zoë")
    assert audit_log(work).read_bytes().count(b"\n") == 3


def test_a_line_that_a_full_disk_cut_short_is_replaced_and_the_log_stays_readable(
    work: Path, shard_set: ShardSet
) -> None:
    decided(work, shard_set, "a", 0.5)
    log = audit_log(work)
    with open(log, "ab") as file:
        file.write(b'{"id": "cut sh')
    assert len(audit.read(log)) == 1
    decided(work, shard_set, "b", 0.9)
    assert [entry.version for entry in audit.read(log)] == [1, 2]
    log.write_bytes(log.read_bytes().replace(b'"event":"promoted"', b'"event":"?"', 1))
    with pytest.raises(DataError, match=r"line 1 is no entry of the audit log"):
        audit.read(log)


def test_pictures_that_an_ancestor_learned_from_count_as_learned(
    work: Path, shard_set: ShardSet, tmp_path: Path
) -> None:
    """A warm start carries over what the former captioner saw, whatever it is trained on now."""
    import small_registry

    first = decided(work, shard_set, "a", 0.5)
    (tmp_path / "pictures").mkdir()
    small_registry.write_pictures(tmp_path / "pictures", images=12, first=200)
    rows = [json.loads(line) for line in (tmp_path / "pictures" / "rows.jsonl").open()]
    swapped = [{**row, "split": {"train": "val", "val": "train"}[row["split"]]} for row in rows]
    before = small_registry.make_shards(tmp_path / "pictures", tmp_path / "earlier")
    (tmp_path / "pictures" / "rows.jsonl").write_text("\n".join(map(json.dumps, swapped)))
    after = small_registry.make_shards(tmp_path / "pictures", work)
    decided(work, before, "b", 0.1, captions=said(shard_set, 0.1))
    assert first.evaluation_set is not None
    now = settings(evaluation_set=present_set(settings(), after).fingerprint)
    made, card = small_registry.candidate(work, after, "c", said(after, 1.0))
    description = Path(made.path) / "captioner.json"
    value = json.loads(description.read_text())
    value["provenance"] = {"learned_from": [before.fingerprint]}
    description.write_text(json.dumps(value))
    from pipeline.promote import promote

    refused = promote(now, work, after, made, card)
    assert refused.reason.startswith(
        "captioner/3 is refused, for evaluation pictures: 12 of the 12 pictures of 'val' are"
    )


def test_an_unknown_name_or_alias_says_what_there_is(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    with pytest.raises(ModelNotFoundError, match="it has: captioner"):
        rollback(work, "schreiber-ü", by="ann", reason="r")
    with pytest.raises(ModelNotFoundError, match="it has: captioner"):
        approve(work, "../captioner", alias="challenger", by="ann")
    with pytest.raises(ModelNotFoundError, match="captioner has versions 1"):
        approve(work, "captioner", alias="challenger", by="ann")
    with pytest.raises(ConfigError, match="there is nothing to roll back"):
        rollback(work, "captioner", by="ann", reason="r", to=1)
