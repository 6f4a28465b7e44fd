from __future__ import annotations

import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows import report
from flows.direct import Chain
from pipeline.promote.report import decision_markdown, model_card
from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet, TableReport

SCORES = {
    "bleu_1": 50.0,
    "bleu_2": 40.0,
    "bleu_3": 30.0,
    "bleu_4": 20.04,
    "rouge_l": 45.0,
    "cider": 61.26,
}


@pytest.fixture
def chain() -> Chain:
    return Chain(
        ShardSet(
            manifest="m",
            fingerprint="5e7",
            samples={"train": 1500, "val": 200},
            captions={"train": 7500, "val": 1000},
            bad={"missing": 0, "truncated": 2},
            report="/elsewhere/report.jsonl",
        ),
        Checkpoint(
            path="/elsewhere/model", fingerprint="c", shard_set="5e7", epoch=3, step=9, validation_cider=None, run_id=None
        ),
        ScoreCard(
            path="/elsewhere/score", fingerprint="f", checkpoint="c", split="test", references="refs", images=200,
            metrics=SCORES, signature="sig", run_id=None,
        ),
        Decision(
            path="/elsewhere/promote", fingerprint="d", model="captioner", version=2, promoted=False, reason="not better",
            candidate=SCORES, champion={**SCORES, "cider": 70.0}, champion_version=1, min_gain=0.5, signature="sig",
        ),
    )  # fmt: skip


@pytest.fixture
def table(tmp_path: Path) -> TableReport:
    directory = tmp_path / 'a table\'s "own" folder'
    directory.mkdir()
    rows = [
        {"member": f"{n:02d}.jpg", "caption": f"caption {n}", "status": "captioned"}
        for n in range(20)
    ]
    rows.append({"member": "99.jpg", "caption": None, "status": "failed"})
    pq.write_table(pa.Table.from_pylist(rows), directory / "part-1.parquet")
    (directory / "_report.json").write_text("{}")
    return TableReport(
        table=str(directory), model="captioner/1", recipe="r", discovered=21, captioned=20, failed={"truncated": 1},
        skipped={}, units=1, units_reused=0, seconds=2.0, images_per_second=10.0,
    )  # fmt: skip


def test_the_demo_says_all_that_a_newcomer_wants_to_know(chain: Chain, table: TableReport) -> None:
    text = report.about_demo(chain, table)
    for expected in (
        "1,500 train, 200 val",
        "captioner/1",
        "not better",
        "BLEU-4 20.0, CIDEr 61.3",
        "pictures in   21\n",
        "captions out  20\n",
        "failed        1 truncated\n",
    ):
        assert expected in text
    shown = [line.split() for line in text.splitlines() if ".jpg" in line]
    assert [words[0] for words in shown] == ["00.jpg", "04.jpg", "08.jpg", "12.jpg", "16.jpg"]
    assert shown[1][1:] == ["caption", "4"]


def test_the_line_that_queries_the_table_runs_in_a_shell(table: TableReport) -> None:
    command = report.query(table.table)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert "caption 19" in done.stdout


def test_examples_of_a_small_table(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"member": ["b", "a"], "caption": ["y", "x"], "status": ["captioned"] * 2}),
        tmp_path / "part.parquet",
    )
    assert report.examples(tmp_path) == [("a", "x"), ("b", "y")]


def test_summaries(chain: Chain, table: TableReport) -> None:
    assert "left out   2 truncated (listed in /elsewhere/report.jsonl)" in report.about_shards(
        chain.shard_set
    )
    assert "validation CIDEr  not scored" in report.about_checkpoint(chain.checkpoint)
    assert "CIDEr       61.3" in report.about_scores(chain.score_card)
    assert "champion     captioner/1" in report.about_decision(chain.decision)
    assert "10.0 pictures/s" in report.about_table(table)
    assert "this run" not in report.about_table(table.model_copy(update={"seconds": 0.0}))
    assert "decision    not better" in report.about_chain(chain)
    assert Chain.from_json({**chain.to_json(), "table": {}}) == chain


def test_markdown_sets_the_scores_side_by_side(chain: Chain) -> None:
    text = decision_markdown(*chain)
    assert text.startswith("# captioner/2: refused\n\nnot better\n")
    assert "| x100 | captioner/2 | 95 % | captioner/1 | gain | 95 % | p |" in text
    assert "| CIDEr | 61.3 |  | 70.0 |" in text
    assert "more than 0.5 CIDEr" in text


def test_meteor_is_shown_where_it_was_scored(chain: Chain) -> None:
    assert "METEOR" not in report.about_scores(chain.score_card) + decision_markdown(*chain)
    card = chain.score_card.model_copy(update={"metrics": {**SCORES, "meteor": 20.5}})
    assert "METEOR      20.5" in report.about_scores(card)
    decision = chain.decision.model_copy(update={"candidate": {**SCORES, "meteor": 20.5}})
    # The champion, scored for the gate alone, has none.
    assert "| METEOR | 20.5 |  |  |" in decision_markdown(*chain._replace(decision=decision))


def test_the_model_card_is_no_longer_than_a_description_may_be(chain: Chain) -> None:
    text = model_card(*chain)
    assert text.startswith("# captioner/2\n\nRefused. not better\n")
    assert "1,500 pictures with 7,500 captions" in text
    long = chain.decision.model_copy(update={"reason": "because\n" * 2000})
    assert len(model_card(*chain._replace(decision=long))) <= 5000


def test_paths_below_this_directory_are_shown_relative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert report.shown(str(tmp_path / "a" / "b")) == "a/b"
    assert report.shown("/elsewhere") == "/elsewhere"
    assert report.shown("captioner/1") == "captioner/1"
