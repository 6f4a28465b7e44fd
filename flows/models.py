"""The commands `models`, `approve` and `rollback`: what is registered, and who captions."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from flows import report
from flows.options import said, work_option
from pipeline.errors import ConfigError
from pipeline.promote.audit import Entry
from pipeline.promote.listing import (
    VersionDetails,
    VersionRow,
    list_models,
    list_versions,
    show_version,
)
from pipeline.promote.rollback import Rollback
from pipeline.tracking.refs import parse_ref

name_option = click.option(
    "--name", default="captioner", show_default=True, metavar="NAME", help="The registered model."
)
json_option = click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")


@click.group(invoke_without_command=True)
@name_option
@json_option
@work_option
@click.pass_context
def models(context: click.Context, name: str, as_json: bool, work: Path) -> None:
    """List versions, aliases, scores and decisions.

    \b
    Examples:
      captionmill models
      captionmill models --name captioner --json
      captionmill models show captioner@champion
    """
    if context.invoked_subcommand is not None:
        return
    rows = list_versions(work, name)
    if as_json:
        click.echo(json.dumps([row.model_dump(mode="json") for row in rows], indent=1))
        return
    click.echo(about_versions(rows) if rows else _none(work, name))


@models.command()
@click.argument("ref", metavar="REF")
@json_option
@work_option
def show(ref: str, as_json: bool, work: Path) -> None:
    """Show one version: decision, scores, lineage and history.

    REF is NAME@alias or NAME/version.

    \b
    Examples:
      captionmill models show captioner@champion
      captionmill models show captioner/1 --json
    """
    name, alias, version = parse_ref(ref)
    found = show_version(work, name, alias=alias, version=version)
    text = json.dumps(found.model_dump(mode="json"), indent=1) if as_json else about_version(found)
    click.echo(text)


@click.command()
@click.argument("ref", metavar="REF")
@click.option("--by", required=True, type=said, metavar="NAME", help="Who lets it through.")
@click.option("--reason", default="", type=said, metavar="TEXT", help="Why; kept with the name.")
@click.option(
    "--overrule", is_flag=True, help="Also a version that the gate refused or that was taken back."
)
@work_option
def approve(ref: str, by: str, reason: str, overrule: bool, work: Path) -> None:
    """Make a candidate that waits the champion.

    REF is NAME@challenger or NAME/version; it passed the gate with promote.require_approval.

    \b
    Examples:
      captionmill approve captioner@challenger --by ann
      captionmill approve captioner/7 --by ann --reason looked-at-200-captions
    """
    from pipeline.promote.approve import approve as stage

    if overrule and not reason.strip():
        raise ConfigError("--overrule needs a --reason, which is kept in the audit log")
    name, alias, version = parse_ref(ref)
    decision = stage(
        work, name, alias=alias, version=version, by=by, reason=reason, overrule=overrule
    )
    resume_run(decision.flow_run)
    click.echo(report.about_decision(decision))


@click.command()
@click.option(
    "--reason", required=True, type=said, metavar="TEXT", help="Why; kept in the audit log."
)
@click.option("--by", type=said, metavar="NAME", help="Who asks.  [default: this user]")
@click.option("--to", metavar="N", type=click.IntRange(1), help="Another version than `previous`.")
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A table to say of what becomes stale; those in the work directory always are.",
)
@name_option
@work_option
def rollback(
    reason: str,
    by: str | None,
    to: int | None,
    tables: tuple[Path, ...],
    name: str,
    work: Path,
) -> None:
    """Return to the champion of before.

    The version that is taken back stays away until `captionmill approve --overrule` lets it in again.

    \b
    Examples:
      captionmill rollback --reason dogs-everywhere
      captionmill rollback --to 3 --reason last-good-one --by ann --table captions
    """
    from pipeline.caption.made_by import stale_rows
    from pipeline.promote.rollback import rollback as stage

    done = stage(work, name, by=by, reason=reason, to=to)
    known = sorted(path.parent for path in work.glob("captions/*/_table.json"))
    stale = [(table, *stale_rows(table, name, done.champion)) for table in [*known, *tables]]
    click.echo(about_rollback(done, stale))


def resume_run(flow_run: str | None) -> None:
    """Let the flow run that waits for this approval go on, where its server is at hand.

    Raises:
        ConfigError: the server does not answer; the approval stands.
    """
    if flow_run is None or not (address := os.environ.get("PREFECT_API_URL")):
        return
    from uuid import UUID

    from httpx import HTTPError
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    try:
        with get_client(sync_client=True) as client:
            waits = client.read_flow_run(UUID(flow_run)).state
            if waits is not None and waits.is_paused():
                client.resume_flow_run(UUID(flow_run))
                click.echo(f"flow run {flow_run} goes on", err=True)
    except ObjectNotFound:
        return  # Prefect's database was lost; the decision stands
    except HTTPError as error:
        raise ConfigError(
            f"it is champion, but flow run {flow_run} was not resumed: Prefect at {address} does not "
            f"answer ({type(error).__name__}); run the same command again, or resume it in Prefect's UI"
        ) from None


def about_versions(rows: list[VersionRow]) -> str:
    """The table that `models` prints."""
    from flows.results_report import printable

    head = ["version", "aliases", "CIDEr", "decision", "why"]
    cells = [head]
    for row in rows:
        cider = "" if row.cider is None else f"{row.cider:.1f}"
        why = printable(row.reason, 90)
        ref = f"{row.model}/{row.version}"
        cells.append([ref, ", ".join(row.aliases), cider, row.decision, why])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def about_version(found: VersionDetails) -> str:
    """What `models show` prints: the card, then where it came from and what happened to it."""
    made, shards, card = found.checkpoint or {}, found.shard_set, found.score_card
    rows = [
        ("version", f"{found.model}/{found.version}"),
        ("aliases", ", ".join(found.aliases) or "none"),
        ("decision", found.decision),
        ("why", found.reason),
        ("files", report.shown(found.directory)),
        ("fingerprint", found.fingerprint),
        ("MLflow run", found.run_id),
        ("trained", f"epoch {made.get('epoch')}, step {made.get('step')}" if made else "unknown"),
        ("settings", report.shown(found.config) if found.config else "unknown"),
    ]
    if shards is not None:
        rows.append(("shard set", f"{shards['fingerprint']}  {report.shown(shards['manifest'])}"))
        rows.append(("pictures", report.counts(shards["samples"])))
    if card is not None:
        rows.append(("score card", report.shown(card["path"])))
        rows.append(("signature", card["signature"]))
    text = report.lines([(name, value) for name, value in rows if value])
    history = "\n".join(_line(entry) for entry in found.history)
    return "\n".join(
        [text, *(["", "history", history] if history else []), "", found.card.rstrip()]
    )


def about_rollback(done: Rollback, stale: list[tuple[Path, int, int]]) -> str:
    """What `rollback` prints."""
    rows = [
        ("champion", f"{done.model}/{done.champion}"),
        ("taken back", f"{done.model}/{done.version}"),
        ("why", done.reason),
        ("by", done.by),
    ]
    for table, count, rows_in_all in stale:
        text = f"{count:,} of {rows_in_all:,} rows are stale"
        if count:
            text += f": captionmill caption ARCHIVE --table {report.shown(str(table))} --refresh"
        rows.append((report.shown(str(table)), text))
    if not stale:
        rows.append(("tables", "none known; name them with --table"))
    return report.lines(rows)


def _line(entry: Entry) -> str:
    who = f", approved by {entry.approved_by}" if entry.approved_by else ""
    why = f": {entry.why}" if entry.why else ""
    return f"  {entry.time}  {entry.event} for {entry.asked_by}{who}{why}"


def _none(work: Path, name: str) -> str:
    others = list_models(work)
    there = f"; there are {', '.join(others)}" if others else ""
    return f"no versions of {name} in the registry{there}"
