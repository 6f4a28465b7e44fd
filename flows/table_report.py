"""A table as an artifact: what a bulk run did, in Markdown. Records and rows in, text out."""

from __future__ import annotations

from collections.abc import Sequence

from flows.report import escaped, number
from pipeline.caption.members import FAILED, SKIPPED
from pipeline.caption.sample import Sampled
from pipeline.caption.tasks import KILLERS
from pipeline.images import CODES
from pipeline.records import TableReport

MEANINGS = {**CODES, **FAILED, **KILLERS, **SKIPPED}


def table_markdown(record: TableReport, sample: Sequence[Sampled] = ()) -> str:
    """Counts, rates, failures by code, the bottleneck, and captions to look at."""
    parts = [
        f"# {record.captioned:,} of {number(record.discovered, 'picture')} captioned",
        _table(["", ""], _facts(record)),
        _failures("## Failed", record.failed),
        _failures("## Skipped", record.skipped),
        _stages(record),
        _sample(sample),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _facts(record: TableReport) -> list[tuple[str, str]]:
    failed, skipped = sum(record.failed.values()), sum(record.skipped.values())
    rows = [
        ("table", f"`{record.table}`"),
        ("model", f"`{record.model}`"),
        ("pictures in", f"{record.discovered:,}"),
        ("captions out", f"{record.captioned:,}"),
        ("failed", f"{failed:,}{_share(failed, record.discovered)}"),
        ("skipped", f"{skipped:,}{_share(skipped, record.discovered)}"),
    ]
    if record.deleted:
        rows.append(("no longer in their archive", f"{record.deleted:,}"))
    if record.stale:
        rows.append(("by another model or other settings", f"{record.stale:,}"))
    reused = f", {record.units_reused:,} of them done before" if record.units_reused else ""
    rows += [
        ("units", f"{record.units:,}{reused}"),
        ("this run", f"{record.seconds:,.1f} s"),
        ("captioned by it", f"{record.images_per_second:,.1f} pictures/s"),
    ]
    if record.bottleneck:
        rows.append(("bottleneck", f"{record.bottleneck} (engine {record.engine})"))
    return rows


def _share(count: int, of: int) -> str:
    return f" ({count / of:.2%})" if count and of else ""


def _failures(title: str, codes: dict[str, int]) -> str:
    if not codes:
        return ""
    rows = [
        (f"`{code}`", f"{count:,}", MEANINGS.get(code, ""))
        for code, count in sorted(codes.items(), key=lambda item: -item[1])
    ]
    return f"{title}\n\n" + _table(["code", "pictures", "meaning"], rows)


def _stages(record: TableReport) -> str:
    whole = sum(record.stage_seconds.values())
    if not whole:
        return ""
    rows = [
        (stage, f"{seconds:,.1f}", f"{seconds / whole:.0%}")
        for stage, seconds in record.stage_seconds.items()
    ]
    head = ["stage", "busy seconds, of all threads", "share"]
    return "## Where the time went\n\n" + _table(head, rows)


def _sample(sample: Sequence[Sampled]) -> str:
    if not sample:
        return ""
    rows = [(one.member, one.caption, f"{one.score:.2f}") for one in sample]
    head = ["picture", "caption", "mean log-probability"]
    return "## Some of the captions\n\n" + _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(head)
    lines = [rule, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [list(head), *lines])


def _cell(text: str) -> str:
    """One line that cannot end its cell, nor become markup that a browser acts on."""
    plain = escaped(" ".join(text.split())).replace("|", "\\|")
    return plain.replace("<", "&lt;").replace("[", "\\[")
