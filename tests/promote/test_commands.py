"""The commands models, approve, rollback and gc, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from small_registry import decided, settings

from flows import cli
from pipeline import storage
from pipeline.caption.made_by import stale_rows
from pipeline.errors import TableError
from pipeline.records import ShardSet
from pipeline.tracking import Tracker


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def table_of(folder: Path, versions: list[str]) -> Path:
    """Captioned rows of these versions, and a failed one."""
    storage.commit_json(folder / "_table.json", {})
    count = len(versions)
    rows = {
        "model_name": ["captioner"] * (count + 1),
        "model_version": [*versions, "1"],
        "status": ["captioned"] * count + ["failed"],
    }
    pq.write_table(pa.table(rows), folder / "part-1.parquet", use_dictionary=True)
    return folder


def test_models_lists_versions_aliases_scores_and_decisions(
    work: Path, shard_set: ShardSet
) -> None:
    empty = run("models", "--work", work)
    assert (empty.exit_code, empty.stdout) == (0, "no versions of captioner in the registry\n")
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.9)
    decided(work, shard_set, "c", 0.1)
    listed = run("models", "--work", work).stdout.splitlines()
    assert [line.split()[0] for line in listed] == [
        "version",
        "captioner/3",
        "captioner/2",
        "captioner/1",
    ]
    assert "challenger" in listed[1] and "refused" in listed[1] and "lack of gain" in listed[1]
    assert "champion" in listed[2] and "651.3" in listed[2] and "promoted" in listed[2]
    rows = json.loads(run("models", "--json", "--work", work).stdout)
    assert [row["aliases"] for row in rows] == [["challenger"], ["champion"], ["previous"]]
    other = run("models", "--name", "writer", "--work", work)
    assert other.stdout == "no versions of writer in the registry; there are captioner\n"


def test_models_show_has_the_lineage_and_the_history(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5, how={"asked_by": "ann", "cause": "weekly"})
    shown = run("models", "show", "captioner@champion", "--work", work).stdout
    for part in (
        f"shard set    {shard_set.fingerprint}",
        "40 train, 40 val",
        "config.yaml",
        "promoted for ann: weekly",
        "## Scores",
        "## Limits",
    ):
        assert part in shown
    found = json.loads(run("models", "show", "captioner/1", "--json", "--work", work).stdout)
    assert found["shard_set"]["manifest"] == shard_set.manifest
    assert found["record"]["evaluation_set"]["images"] == 40
    missing = run("models", "show", "captioner/7", "--work", work)
    assert missing.exit_code == 4 and "captioner has versions 1" in missing.stderr


def test_approve_and_rollback(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.9, settings(require_approval=True))
    assert "waiting for approval" in run("models", "--work", work).stdout
    refused = run("approve", "captioner/1", "--by", "ann", "--overrule", "--work", work)
    assert refused.exit_code == 2 and "--reason" in refused.stderr
    done = run("approve", "captioner@challenger", "--by", "ann", "--work", work)
    assert done.exit_code == 0, done.stderr
    assert "approved by" in done.stdout and "champion" in done.stdout
    assert Tracker(work).aliases("captioner") == {"champion": 2, "previous": 1}

    table_of(work / "captions" / "known", ["2", "2", "1"])
    mine = table_of(work.parent / "mine", ["1"])
    back = run("rollback", "--reason", "wrong", "--table", mine, "--work", work)
    assert back.exit_code == 0, back.stderr
    assert "champion" in back.stdout and "captioner/1" in back.stdout
    assert "2 of 3 rows are stale" in back.stdout and "0 of 1 rows are stale" in back.stdout
    assert "rolled back" in run("models", "--work", work).stdout
    again = run("rollback", "--reason", "wrong", "--work", work)
    assert again.exit_code == 4 and "none was before it" in again.stderr


def test_words_that_are_not_utf8_are_a_usage_error(work: Path, shard_set: ShardSet) -> None:
    decided(work, shard_set, "a", 0.5)
    for option in ("--by", "--reason"):
        words = {"--by": "ann", "--reason": "r", option: "gr\udcfcn"}
        flat = [word for pair in words.items() for word in pair]
        refused = run("approve", "captioner/1", *flat, "--work", work)
        assert refused.exit_code == 2
        assert "b'gr\\xfcn' is not UTF-8" in refused.stderr


def test_an_approval_stands_though_prefect_does_not_answer(
    work: Path, shard_set: ShardSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided(work, shard_set, "a", 0.5)
    waits = settings(require_approval=True)
    decided(work, shard_set, "b", 0.9, waits, how={"flow_run": str(uuid.uuid4())})
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    nowhere = "http://127.0.0.1:1/api"
    monkeypatch.setenv("PREFECT_API_URL", nowhere)
    # Prefect reads the environment once, and another test of this process may have imported it.
    with temporary_settings({PREFECT_API_URL: nowhere, PREFECT_CLIENT_MAX_RETRIES: 0}):
        for _ in range(2):  # again does nothing but try to resume
            answer = run("approve", "captioner/2", "--by", "ann", "--work", work)
            assert answer.exit_code == 2
            assert "it is champion, but flow run" in answer.stderr
    assert Tracker(work).aliases("captioner") == {"champion": 2, "previous": 1}


def test_stale_rows_needs_a_table(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="not a caption table"):
        stale_rows(tmp_path, "captioner", 1)
    storage.commit_json(tmp_path / "_table.json", {})
    assert stale_rows(tmp_path, "captioner", 1) == (0, 0)
    (tmp_path / "part-1.parquet").write_bytes(b"rot")
    with pytest.raises(TableError, match="captionmill verify"):
        stale_rows(tmp_path, "captioner", 1)


def test_gc_lists_and_removes(work: Path, shard_set: ShardSet) -> None:
    del shard_set
    assert run("gc", "--work", work).stdout == "nothing to remove\n"
    old = work / "train" / storage.fingerprint("old")
    storage.commit(old / "model" / "weights", b"x" * 2500)
    listed = run("gc", "--keep-days", "0", "--work", work)
    assert listed.exit_code == 0, listed.stderr
    assert "2.5 kB  train" in listed.stdout and "--delete removes them" in listed.stdout
    assert old.exists()
    assert "removed" in run("gc", "--keep-days", "0", "--delete", "--work", work).stdout
    assert not old.exists()


def test_going_back_loads_no_model(work: Path, shard_set: ShardSet) -> None:
    """What makes it quick: neither torch nor Prefect is imported."""
    decided(work, shard_set, "a", 0.5)
    decided(work, shard_set, "b", 0.9)
    script = (
        "import sys\nfrom flows.cli import main\ntry:\n    main(sys.argv[1:])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "assert not {'torch', 'prefect'} & set(sys.modules)\n"
    )
    arguments = ["rollback", "--reason", "wrong", "--work", str(work)]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
