"""What people read at the end of a command, and the Markdown report of a promotion.

Records in, text out; knows no stage and no orchestrator.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.direct import Chain
from pipeline.progress import clock
from pipeline.promote.report import TITLES
from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet, TableReport
from pipeline.remote import Location

if TYPE_CHECKING:
    from pipeline.caption import Staleness
    from pipeline.caption.profile import Profile

METRICS = {name: title for name, title in TITLES.items() if name != "meteor"}


def counts(numbers: Mapping[str, int], none: str = "none") -> str:
    """`{"train": 1500, "val": 200}` as `1,500 train, 200 val`."""
    return ", ".join(f"{number:,} {name}" for name, number in numbers.items() if number) or none


def number(count: int, thing: str) -> str:
    """`1 image`, `2,000 images`."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def size(count: int) -> str:
    """Bytes as people read them: `1.5 GB`."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def escaped(text: str) -> str:
    """`text` with control characters spelt out, so that no stranger's reach a terminal."""
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def lines(rows: Sequence[tuple[str, str]]) -> str:
    """Names and values in two columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def about_shards(record: ShardSet) -> str:
    """The summary of `shard`."""
    bad = counts(record.bad)
    listed = f" (listed in {shown(record.report)})" if any(record.bad.values()) else ""
    return lines(
        [
            ("shard set", shown(record.manifest)),
            ("pictures", counts(record.samples)),
            ("captions", counts(record.captions)),
            ("left out", f"{bad}{listed}"),
        ]
    )


def about_checkpoint(record: Checkpoint) -> str:
    """The summary of `train`."""
    cider = "not scored" if record.validation_cider is None else f"{record.validation_cider:.1f}"
    return lines(
        [
            ("captioner", shown(record.path)),
            ("best epoch", f"{record.epoch} (step {record.step:,})"),
            ("validation CIDEr", cider),
        ]
    )


def about_scores(record: ScoreCard) -> str:
    """The summary of `score`."""
    metrics = [(title, f"{record.metrics[name]:.1f}") for name, title in titles(record).items()]
    return lines(
        [
            ("score card", shown(record.path)),
            ("scored", f"{record.images:,} pictures of {record.split}"),
            *metrics,
            ("signature", record.signature),
        ]
    )


def titles(card: ScoreCard) -> dict[str, str]:
    """`METRICS`, and METEOR where it was asked for."""
    return {name: title for name, title in TITLES.items() if name in {*METRICS, *card.metrics}}


def about_decision(record: Decision) -> str:
    """The summary of `promote` and `approve`."""
    rows = [("candidate", f"{record.model}/{record.version}"), ("decision", record.sentence)]
    rows += [
        (guard.name, f"{'passed' if guard.passed else 'FAILED'}: {guard.sentence}")
        for guard in record.guards
    ]
    if record.approved_by is not None:
        rows.append(("approved by", ": ".join(filter(None, [record.approved_by, record.approval]))))
    rows += [("champion", champion(record)), ("recorded in", shown(record.path))]
    return lines(rows)


def about_rehearsal(record: Decision) -> str:
    """The summary of `promote --dry-run`: what would happen."""
    would = "would be promoted" if record.promoted else "would not be promoted"
    if record.waiting:
        would = "would wait for approval"
    return "\n".join([*about_decision(record).splitlines()[:-2], f"dry run: it {would}"])


def champion(record: Decision) -> str:
    """NAME/version of the champion that the decision left."""
    version = record.version if record.promoted else record.champion_version
    return "none yet" if version is None else f"{record.model}/{version}"


def about_table(record: TableReport) -> str:
    """The summary of `caption` and `verify`."""
    rows = [
        ("table", shown(record.table)),
        ("model", shown(record.model)),
        ("pictures in", f"{record.discovered:,}"),
        ("captions out", f"{record.captioned:,}"),
        ("failed", counts(record.failed)),
        ("skipped", counts(record.skipped)),
    ]
    if record.deleted:
        rows.append(("deleted", f"{record.deleted:,} of them no longer in their archive"))
    if record.stale:
        rows.append(("stale", f"{record.stale:,} of them by another model or other settings"))
    if record.seconds:
        reused = f", {record.units_reused:,} of them done before" if record.units_reused else ""
        rows.append(
            (
                "this run",
                f"{number(record.units, 'unit')}{reused}; {record.seconds:.1f} s, "
                f"{record.images_per_second:,.1f} pictures/s",
            )
        )
    return lines(rows)


def about_profile(profile: Profile, table: Location) -> str:
    """The summary of `caption --profile`: what each process's time went on."""
    first = profile.first_row_seconds
    after = "" if first is None else f"; first rows after {first:.1f} s"
    rows = [("profile", shown(str(table / "_profile.svg")))]
    rows.append(("time", f"{profile.seconds:.1f} s with imports and start{after}"))
    busy = f"{profile.busy_cores:.2f} of {number(profile.cores, 'core')}"
    rows.append(("busy", f"{busy}{f'; bottleneck {slow}' if (slow := profile.bottleneck) else ''}"))
    for process in profile.processes:
        for lane in process.lanes:
            whole = sum(lane.seconds.values()) or 1.0
            shares = sorted(lane.seconds.items(), key=lambda item: -item[1])
            told = [
                f"{stage} {spent / whole:.0%}" for stage, spent in shares if spent >= whole / 100
            ]
            name = process.name if lane.name == process.name else f"{process.name}, {lane.name}"
            rows.append((name, ", ".join(told)))
    return lines(rows)


def about_staleness(found: Staleness) -> str:
    """The summary of `stale`."""
    total = sum(group.rows + group.deleted for group in found.groups)
    share = f" ({found.rows / total:.0%})" if found.rows else ""
    rows = [
        ("table", shown(str(found.table))),
        ("beside", shown(found.target.model.ref)),
        ("stale", f"{found.rows:,} of {number(total, 'row')}{share}"),
    ]
    if found.rows and found.hours is not None and found.rate is not None:
        hours = f"{found.hours:,.1f} h" if found.hours >= 0.05 else clock(found.hours * 3600)
        rows.append(("to refresh", f"{hours} at {found.rate:,.1f} pictures/s"))
    elif found.rows:
        rows.append(("to refresh", "no run has told a rate yet"))
    for group in found.groups:
        model = group.marker.model
        gone = f", and {group.deleted:,} no longer in their archive" if group.deleted else ""
        why = "; ".join(group.differences) or "as it would be made now"
        rows.append((f"{model.name} {model.version}".strip(), f"{group.rows:,}{gone}: {why}"))
    if found.unfinished:
        rows.append(("unfinished", f"{found.unfinished:,} planned pictures without a row"))
    return lines(rows)


def about_chain(chain: Chain) -> str:
    """The summary of `retrain`."""
    shard_set, checkpoint, card, decision = chain
    return lines(
        [
            ("trained on", f"{shard_set.samples.get('train', 0):,} pictures"),
            ("captioner", shown(checkpoint.path)),
            ("scored on", f"{card.images:,} pictures of {card.split}"),
            ("BLEU-4", f"{card.metrics['bleu_4']:.1f}"),
            ("CIDEr", f"{card.metrics['cider']:.1f}"),
            ("decision", decision.sentence),
            ("champion", champion(decision)),
        ]
    )


def about_demo(chain: Chain, table: TableReport) -> str:
    """The summary of `demo`: all of it, for somebody who sees it for the first time."""
    card = chain.score_card
    pictures = sum(chain.shard_set.samples.values())
    head = lines(
        [
            ("data set", f"{pictures:,} pictures ({counts(chain.shard_set.samples)})"),
            ("champion", champion(chain.decision)),
            ("decision", chain.decision.sentence),
            (
                "quality",
                f"BLEU-4 {card.metrics['bleu_4']:.1f}, CIDEr {card.metrics['cider']:.1f} "
                f"on {card.images:,} {card.split} pictures (x100 scale)",
            ),
            ("pictures in", f"{table.discovered:,}"),
            ("captions out", f"{table.captioned:,}"),
            ("failed", counts(table.failed)),
            ("skipped", counts(table.skipped)),
            ("table", shown(table.table)),
        ]
    )
    return "\n".join(
        [
            "",
            head,
            "",
            "Five of the captions:",
            *(f"  {member}  {caption}" for member, caption in examples(Path(table.table))),
            "",
            "Look at more of them with:",
            f"  {query(table.table)}",
        ]
    )


def examples(table: Path, number: int = 5) -> list[tuple[str, str]]:
    """(member, caption) of `number` captioned rows, spread over the table."""
    import pyarrow.dataset as ds

    rows = ds.dataset(table, format="parquet").to_table(
        columns=["member", "caption"], filter=ds.field("status") == "captioned"
    )
    step = max(1, len(rows) // number)
    chosen = rows.sort_by("member").take(list(range(0, len(rows), step))[:number]).to_pylist()
    return [(row["member"], row["caption"]) for row in chosen]


def query(table: str) -> str:
    """A shell command that prints a table's file names and captions."""
    code = (
        f"import pyarrow.dataset as ds; print(ds.dataset({json.dumps(shown(table))})"
        '.to_table(columns=["member", "caption"]).to_pandas())'
    )
    return f"{shlex.quote(shown(sys.executable))} -c {shlex.quote(code)}"


def shown(path: str) -> str:
    """A path as a person here would type it: relative if it lies below this directory."""
    if not Path(path).is_absolute():
        return path
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
