"""The commands that look after caption tables: what is stale in one, compacting, exporting."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Literal

import click

from flows import direct, report
from flows.options import settings_options
from pipeline import storage
from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.remote import Location, location

TABLE = click.argument("table", metavar="TABLE", type=location)


@click.command()
@TABLE
def verify(table: Location) -> None:
    """Check that a table of captions is whole.

    Every picture is accounted for, once, and every part is as it was written.

    \b
    Examples:
      captionmill verify captions
    """
    from pipeline.caption import verify as stage

    click.echo(report.about_table(stage(table)))
    click.echo("verified: every picture is accounted for, once, and every part is whole")


@click.command()
@TABLE
@click.option(
    "--model",
    metavar="REF",
    help="NAME@alias, NAME/version or a directory.  [default: captioner@champion]",
)
@settings_options
def stale(
    table: Location, model: str | None, config: str | None, overrides: tuple[str, ...], work: Path
) -> None:
    """Say how many captions another model would replace.

    Counts the rows that --model and the settings would make otherwise, and estimates the hours
    from the rate of the table's last run. `caption --refresh` replaces them.

    \b
    Examples:
      captionmill stale captions
      captionmill stale captions --model captioner/2
    """
    from pipeline.caption import staleness

    chosen = [f"caption.model={json.dumps(model)}"] if model is not None else []
    settings = load_config(config, [*overrides, *chosen])
    target = direct.table_marker(settings, work, table)
    click.echo(report.about_staleness(staleness(table, target)))


@click.command()
@TABLE
@click.option("--to", required=True, metavar="DIR", type=location, help="A new directory.")
@click.option(
    "--rows",
    default=65_536,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, 1_000_000),
    help="Most rows a part.",
)
def compact(table: Location, to: Location, rows: int) -> None:
    """Copy a table into one of larger parts.

    The same rows in the order of the plan: a caption table itself, which `verify` checks and
    `caption` goes on with. TABLE stays as it is.

    \b
    Examples:
      captionmill compact captions --to captions-large
    """
    from pipeline.caption import compact as stage

    click.echo(report.about_table(stage(table, to, rows)))


@click.command()
@TABLE
@click.option("--to", required=True, type=click.Choice(["csv", "jsonl"]), help="The format.")
@click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path), help="[default: standard output]"
)
@click.option("--columns", metavar="A,B,...", help="Only these columns, in this order.")
def export(
    table: Location, to: Literal["csv", "jsonl"], out: Path | None, columns: str | None
) -> None:
    """Write a table's rows as CSV or JSON lines.

    \b
    Examples:
      captionmill export captions --to csv --out captions.csv
      captionmill export captions --to jsonl --columns member,caption,score
    """
    from pipeline.caption.export import export as stage

    chosen = [name.strip() for name in columns.split(",")] if columns is not None else None
    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out} is a directory; name a file")
    told: list[tuple[int, int]] = []
    if out is not None:
        storage.commit(out, lambda file: told.append(stage(table, file, to, chosen)))
    else:
        try:
            told.append(stage(table, sys.stdout.buffer, to, chosen))
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader has seen enough, as `head` does.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
    written, missing = told[0]
    if out is not None:
        click.echo(f"{report.number(written, 'row')} in {report.shown(str(out))}")
    if missing:
        click.echo(
            f"the table is unfinished: {report.number(missing, 'planned picture')} without a row",
            err=True,
        )
