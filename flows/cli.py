"""The command `captionmill`.

Single stages run in this process at once; `retrain` and `demo` run as Prefect flows. Heavy
libraries are imported inside the commands that need them.
"""

from __future__ import annotations

import importlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from flows import (
    deploy,
    direct,
    doctor,
    explain,
    gc,
    import_hf,
    models,
    report,
    results,
    tables,
    watch,
)
from flows.command_group import EXIT_CODES, Commands
from flows.options import said, settings_options
from pipeline import storage
from pipeline.config import load_config
from pipeline.records import TableReport
from pipeline.remote import Location, location


def run_flow(
    name: str, work: Path, config: str | None, overrides: list[str], **more: Any
) -> dict[str, Any]:
    """Run the flow `flows.<name>`; imports it while a temporary server starts, if one is needed."""
    from flows.embedded import configure

    with direct.uninterrupted():
        server = configure(work)
        flow = getattr(importlib.import_module(f"flows.{name}"), name)
    if server is not None:
        server.wait()
    records: dict[str, Any] = flow(config, overrides, str(work.absolute()), **more)
    return records


@click.group(
    cls=Commands,
    epilog=EXIT_CODES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(version("captionmill"), prog_name="captionmill")
def main() -> None:
    """Teach a model to describe pictures, then describe archives of them.

    Photos and captions go in at one end (shard, train, score, promote); a caption for every
    picture of an archive comes out at the other (caption, verify). Any command that was killed
    goes on where it stopped when it is run again, and finished work is not done twice.

    \b
    Try it out:
      captionmill demo
      captionmill caption captionmill-work/demo/archive --table captions
    """


@main.command()
@settings_options
def demo(config: str | None, overrides: tuple[str, ...], work: Path) -> None:
    """Run everything on generated pictures, in minutes.

    Draws a data set of coloured shapes, trains a small captioner on it, scores and promotes it,
    and captions an archive.

    \b
    Examples:
      captionmill demo
      captionmill demo --work /tmp/tryout --set demo.train_images=300 --set train.epochs=2
    """
    direct.demo_settings(work, config, list(overrides))  # a bad setting stops before any work

    records = run_flow("demo", work, config or str(direct.DEMO_CONFIG), list(overrides))
    table = TableReport.model_validate(records["table"])
    click.echo(report.about_demo(direct.Chain.from_json(records), table))


@main.command()
@settings_options
def config(config: str | None, overrides: tuple[str, ...], work: Path) -> None:
    """Print the settings, complete and checked, as YAML.

    \b
    Examples:
      captionmill config
      captionmill config -c configs/demo.yaml --set train.epochs=3
    """
    del work
    click.echo(load_config(config, list(overrides)).to_yaml(), nl=False)


@main.command()
@settings_options
def shard(config: str | None, overrides: tuple[str, ...], work: Path) -> None:
    """Pack pictures and captions into WebDataset tars.

    \b
    Examples:
      captionmill shard -c configs/demo.yaml
      captionmill shard -c configs/demo.yaml --set shard.check=decode
    """
    from pipeline.shard import shard as stage

    click.echo(report.about_shards(stage(load_config(config, list(overrides)), work)))


@main.command()
@settings_options
def train(config: str | None, overrides: tuple[str, ...], work: Path) -> None:
    """Train a captioner on the shards.

    \b
    Examples:
      captionmill train -c configs/demo.yaml
      captionmill train -c configs/demo.yaml --set train.epochs=2 --set device=cpu
    """
    settings = load_config(config, list(overrides))
    direct.prepare_torch(settings)
    from pipeline.shard import find_shard_set
    from pipeline.train import train as stage

    click.echo(report.about_checkpoint(stage(settings, work, find_shard_set(settings, work))))


@main.command()
@click.option("--model", metavar="REF", help="NAME@alias, NAME/version or a directory.")
@settings_options
def score(config: str | None, overrides: tuple[str, ...], work: Path, model: str | None) -> None:
    """Score a captioner by BLEU, ROUGE-L and CIDEr.

    Captions `score.split` of the shards. Without --model it is the captioner that `train` made with
    the same settings.

    \b
    Examples:
      captionmill score -c configs/demo.yaml
      captionmill score -c configs/demo.yaml --model captioner@champion --set score.split=val
    """
    settings = load_config(config, list(overrides))
    direct.prepare_torch(settings)
    from pipeline.score import as_checkpoint
    from pipeline.score import score as stage
    from pipeline.shard import find_shard_set
    from pipeline.train import find_checkpoint

    shard_set = find_shard_set(settings, work)
    if model is None:
        checkpoint = find_checkpoint(settings, work, shard_set)
    else:
        checkpoint = as_checkpoint(direct.model_directory(model, work))
    click.echo(report.about_scores(stage(settings, work, shard_set, checkpoint)))


for command in (results.score_captions, results.compare, results.document_frequencies):
    main.add_command(command)


@main.command()
@click.option("--dry-run", is_flag=True, help="Decide and say why; change nothing.")
@click.option(
    "--require-approval", is_flag=True, help="Wait for `captionmill approve` before it captions."
)
@click.option("--cause", default="", type=said, metavar="TEXT", help="Why; kept in the audit log.")
@settings_options
def promote(
    dry_run: bool,
    require_approval: bool,
    cause: str,
    config: str | None,
    overrides: tuple[str, ...],
    work: Path,
) -> None:
    """Register the captioner; if better, as champion.

    It is the one that `train` and `score` made with the same settings. Both are scored on the pinned
    evaluation set, each in a process of its own; it becomes champion where its CIDEr is better by more
    than chance (promote.min_gain, promote.max_p_value) and no guard objects.

    \b
    Examples:
      captionmill promote -c configs/demo.yaml
      captionmill promote -c configs/demo.yaml --set promote.min_gain=0.5 --dry-run
      captionmill promote -c configs/demo.yaml --require-approval
    """
    asked = ["promote.require_approval=true"] if require_approval else []
    settings = load_config(config, [*overrides, *asked])
    from pipeline.promote import promote as stage

    records = direct.promotion_records(settings, work)
    decision = stage(settings, work, *records, cause=cause, dry_run=dry_run)
    click.echo(report.about_rehearsal(decision) if dry_run else report.about_decision(decision))


for command in (models.models, models.approve, models.rollback):
    main.add_command(command)


@main.command()
@click.option(
    "--cause", default="", type=said, metavar="TEXT", help="Who or what asks; in the run's name."
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A bulk run to look at for drift; may be repeated.",
)
@settings_options
def retrain(
    cause: str,
    tables: tuple[Path, ...],
    config: str | None,
    overrides: tuple[str, ...],
    work: Path,
) -> None:
    """Run shard, train, score and promote as one flow.

    With nothing new in data, settings and recipe it says so within seconds. The reason (new shards, new
    settings, drift) stands in the run's name and in the audit log. With retrain.start=champion training
    goes on from the champion's weights and tokenizer.

    \b
    Examples:
      captionmill retrain -c configs/demo.yaml
      captionmill retrain -c configs/demo.yaml --set retrain.start=champion --cause schedule
      captionmill retrain -c configs/demo.yaml --table captions
    """
    # A bad setting stops before any work.
    direct.check_scoring(load_config(config, list(overrides)))
    paths = [str(table) for table in tables]
    records = run_flow("retrain", work, config, list(overrides), cause=cause, tables=paths)
    click.echo(report.about_chain(direct.Chain.from_json(records)))


main.add_command(import_hf.import_hf)


@main.command()
@click.argument("archives", metavar="ARCHIVE...", nargs=-1, type=location)
@click.option(
    "--table",
    required=True,
    metavar="DIR",
    type=location,
    help="The table's directory, or s3:// prefix; new, or of an earlier run.",
)
@click.option(
    "--model",
    metavar="REF",
    help="NAME@alias, NAME/version or a directory.  [default: captioner@champion]",
)
@click.option(
    "--refresh",
    is_flag=True,
    help="Caption anew what another model or other settings captioned.",
)
@click.option(
    "--rollback", is_flag=True, help="Bring back what the last --refresh replaced; no ARCHIVE."
)
@click.option(
    "--prune",
    is_flag=True,
    help="Remove the rows of pictures that the archives no longer hold, instead of marking them.",
)
@click.option(
    "--prune-all",
    is_flag=True,
    help="As --prune, also where that is most of an archive's rows, or all of them.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    help="Who captions: processes on this machine, or actors on a Ray cluster.  [default: local]",
)
@click.option(
    "--profile",
    is_flag=True,
    help="Write where the time went, as numbers and as a picture: DIR/_profile.json and .svg.",
)
@click.option(
    "--break-lock",
    is_flag=True,
    help="Free a table on object storage whose run was killed on another machine.",
)
@settings_options
def caption(
    archives: tuple[Location, ...],
    table: Location,
    model: str | None,
    refresh: bool,
    rollback: bool,
    prune: bool,
    prune_all: bool,
    engine: str | None,
    profile: bool,
    break_lock: bool,
    config: str | None,
    overrides: tuple[str, ...],
    work: Path,
) -> None:
    """Caption archives of pictures into a table.

    Every picture of the folders, tars and zips becomes a row of Parquet; one that cannot be read is
    a row with an error code. Run again, only what is missing, new or changed is captioned; rows of
    an earlier model stay until --refresh.

    \b
    Examples:
      captionmill caption captionmill-work/demo/archive --table captions
      captionmill caption captionmill-work/demo/archive --table captions --model captioner/1
      captionmill caption captionmill-work/demo/archive --table captions --refresh
      captionmill caption captionmill-work/demo/archive --table captions --profile
      captionmill caption captionmill-work/demo/archive --table captions --engine ray
      captionmill caption --table captions --rollback
      captionmill caption s3://bucket/photos s3://bucket/more.tar --table captions
    """
    if break_lock:
        storage.break_lock(table)
    if rollback:
        if archives or model or refresh or prune or prune_all or engine or profile:
            raise click.UsageError("--rollback takes --table alone: it captions nothing")
        from pipeline.caption import rollback as stage

        click.echo(report.about_table(stage(table)))
        return
    if not archives:
        raise click.UsageError("give the ARCHIVEs to caption: folders, tars or zips")
    chosen = [f"caption.model={json.dumps(model)}"] if model is not None else []
    chosen += [f"caption.engine={engine}"] if engine is not None else []
    chosen += ["caption.profile=true"] if profile else []
    settings = load_config(config, [*overrides, *chosen])
    from pipeline.caption.timeline import process_began

    made = direct.caption_archives(
        settings,
        work,
        list(archives),
        table,
        refresh=refresh,
        prune=prune,
        prune_all=prune_all,
        since=process_began(),
    )
    click.echo(report.about_table(made))
    if settings.caption.profile:
        from pipeline.caption.profile import Profile

        click.echo(report.about_profile(Profile.load(table / "_profile.json"), table))


main.add_command(explain.explain)


for command in (tables.verify, tables.stale, tables.compact, tables.export):
    main.add_command(command)
main.add_command(gc.gc)
main.add_command(deploy.deploy)
main.add_command(watch.watch)
main.add_command(doctor.doctor)
