"""The progress line: what it says, and that it is one line."""

from __future__ import annotations

import io

from pipeline.progress import Progress, clock


def test_the_line_says_done_total_rate_eta_and_the_note():
    line = Progress("caption", 2000, out=io.StringIO())
    line.add(500)
    text = line.line("failed 3")
    assert text.startswith("caption 500/2,000 img  ")
    assert "img/s" in text and "eta" in text and text.endswith("failed 3")


def test_work_done_before_does_not_count_towards_the_rate():
    line = Progress("shard", 10, done=9, out=io.StringIO())
    assert "  0.0 img/s" in line.line()
    assert "eta" not in line.line()


def test_elsewhere_than_a_terminal_it_prints_now_and_then():
    out = io.StringIO()
    line = Progress("score", 3, out=out, every=1000)
    for _ in range(3):
        line.add()
    line.close("done")
    assert out.getvalue().count("\n") == 1
    assert "\r" not in out.getvalue()


def test_on_a_terminal_the_line_is_redrawn_and_ends_once():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    line = Progress("score", 2, out=out)
    line.every = 0
    line.add(note="a long note that must be wiped")
    line.add()
    line.close()
    drawn = out.getvalue().split("\r")
    assert len(drawn) == 4 and out.getvalue().count("\n") == 1
    assert len(drawn[2]) >= len(drawn[1])


def test_clock():
    assert [clock(s) for s in (5, 59.6, 185, 7620)] == ["5s", "1m00s", "3m05s", "2h07m"]


def test_a_note_is_made_only_when_it_is_printed() -> None:
    made: list[int] = []

    def note() -> str:
        made.append(1)
        return "noted"

    out = io.StringIO()
    progress = Progress("caption", 3, out=out, every=1000.0)
    progress.add(1, note)
    assert made == []
    progress.every = 0.0
    progress.add(1, note)
    assert made == [1]
    assert out.getvalue().endswith("noted\n")


def test_a_long_name_is_kept_apart_from_the_count():
    assert Progress("neighbours", 3).line().startswith("neighbours 0/3 img")
