from __future__ import annotations

from pathlib import Path

import pytest

from flows import report
from flows.table_report import table_markdown
from pipeline.caption.profile import Lane, ProcessProfile, Profile
from pipeline.caption.sample import Sampled
from pipeline.records import TableReport

TABLE = TableReport(
    table="captions", model="captioner/3", recipe="r", discovered=1000, captioned=950,
    failed={"truncated": 10, "zero_bytes": 30}, skipped={"other_file_type": 10}, units=8, units_reused=3,
    seconds=61.0, images_per_second=12.5, bottleneck="search",
    stage_seconds={"read": 0.0, "decode": 25.0, "encode": 25.0, "search": 50.0, "write": 0.0},
)  # fmt: skip


def test_counts_rates_failures_and_the_bottleneck() -> None:
    text = table_markdown(TABLE, [Sampled("a.jpg", "a dog", -0.51)])
    for expected in (
        "# 950 of 1,000 pictures captioned\n",
        "| failed | 40 (4.00%) |",
        "| units | 8, 3 of them done before |",
        "| captioned by it | 12.5 pictures/s |",
        "| bottleneck | search (engine local) |",
        "| `zero_bytes` | 30 | the file is empty |\n| `truncated` | 10 |",
        "## Skipped\n\n| code | pictures | meaning |",
        "| search | 50.0 | 50% |",
        "| a.jpg | a dog | -0.51 |",
    ):
        assert expected in text


def test_what_did_not_happen_has_no_section() -> None:
    nothing = TABLE.model_copy(
        update={"failed": {}, "skipped": {}, "stage_seconds": {}, "bottleneck": None}
    )
    text = table_markdown(nothing)
    assert "##" not in text
    assert "bottleneck" not in text


def test_a_strangers_text_is_one_cell_and_no_markup() -> None:
    hostile = Sampled("a|b\n\x1b[31m.jpg", "<img src=x> ![x](http://x)", -1.0)
    (row,) = [line for line in table_markdown(TABLE, [hostile]).splitlines() if "a\\|b" in line]
    assert row.replace("\\|", "").count("|") == 4
    assert "\x1b" not in row
    assert "<" not in row
    assert "![" not in row


@pytest.mark.parametrize(
    ("first", "bottleneck", "told"),
    [(3.2, "search", "first rows after 3.2 s"), (None, None, "10.0 s with imports and start")],
)
def test_the_summary_of_a_profile(first: float | None, bottleneck: str | None, told: str) -> None:
    lane = Lane(name="model", threads=1, seconds={"encode": 6.0, "rows": 0.01, "idle": 3.99})
    profile = Profile(
        began="", seconds=10.0, first_row_seconds=first, pictures=5, cores=2, bottleneck=bottleneck,
        processes=(ProcessProfile(name="worker 1", began=0, seconds=10, cpu_seconds=15, lanes=(lane,)),),
    )  # fmt: skip
    text = report.about_profile(profile, Path("captions"))
    assert "captions/_profile.svg" in text
    assert told in text
    assert "1.50 of 2 cores" in text
    assert ("bottleneck search" in text) == (bottleneck is not None)
    assert "worker 1, model  encode 60%, idle 40%" in text
