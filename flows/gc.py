"""The command `gc`: what nothing needs any more, listed or removed."""

from __future__ import annotations

from pathlib import Path

import click

from flows import report
from flows.options import work_option
from pipeline.remote import Location, location


@click.command()
@click.option("--delete", is_flag=True, help="Remove it; without, it is only listed.")
@click.option(
    "--keep-days",
    default=14.0,
    show_default=True,
    metavar="N",
    type=click.FloatRange(0),
    help="Whatever was written within so many days stays.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="DIR",
    type=location,
    help="A table outside the work directory, or an s3:// prefix; the models that made it stay.",
)
@work_option
def gc(delete: bool, keep_days: float, tables: tuple[Location, ...], work: Path) -> None:
    """List what no alias, table or recent run needs.

    Trainings, scores, shards, features, files of versions without an alias, and old parts of refreshed
    tables. What the registry says of a version stays: scores, decision, evidence.

    \b
    Examples:
      captionmill gc
      captionmill gc --table captions --keep-days 30 --delete
    """
    from pipeline.gc import collect

    found = collect(work, tables=tables, keep_days=keep_days, delete=delete)
    for item in found.items:
        size = report.size(item.bytes)
        click.echo(f"{size:>9}  {item.kind:<24}  {report.shown(item.path)}")
    what = report.number(len(found.items), "item")
    if not found.items:
        click.echo("nothing to remove")
    elif delete:
        click.echo(f"removed {what}, {report.size(found.bytes)}")
    else:
        click.echo(f"{what}, {report.size(found.bytes)}, that nothing needs; --delete removes them")
