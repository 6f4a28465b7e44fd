"""The command `doctor`: what is wrong with this environment, and how to mend it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from flows import report
from flows.options import settings_options
from pipeline.doctor import Check, Finding, Inputs, examine

CHECKS = (
    Check("packages", "pipeline.doctor.packages", 30),
    Check("machine", "pipeline.doctor.machine", 30),
    Check("torch", "pipeline.doctor.devices", 60),
    Check("settings", "pipeline.doctor.settings", 30),
    Check("work directory", "pipeline.doctor.work", 30),
    Check("secrets", "pipeline.doctor.credentials", 30),
    Check("prefect", "flows.doctor_prefect", 60),
    Check("mlflow", "pipeline.doctor.registry", 60),
    Check("captioner", "pipeline.doctor.champion", 120),
    Check("places", "pipeline.doctor.places", 60),
)
"""In the order of the report. The seconds are deadlines: imports on a busy machine are most of them."""
COLOURS = {"ok": "green", "warning": "yellow", "wrong": "red"}


@click.command()
@click.option(
    "--archive",
    "archives",
    multiple=True,
    metavar="ARCHIVE",
    help="A path or s3:// URL that is to be captioned; may be repeated.",
)
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="DIR",
    help="A table's directory or s3:// prefix; it is written to. May be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@settings_options
@click.pass_context
def doctor(
    context: click.Context,
    archives: tuple[str, ...],
    tables: tuple[str, ...],
    as_json: bool,
    config: str | None,
    overrides: tuple[str, ...],
    work: Path,
) -> None:
    """Check the environment, and say how to mend it.

    Packages, devices, limits of the container, the work directory, secrets, and the servers and storage
    that the environment names: each is tried for real and left as it was. Ends with code 1 where
    something is wrong; warnings alone end with 0.

    \b
    Examples:
      captionmill doctor
      captionmill doctor -c configs/demo.yaml --json
      captionmill doctor --archive s3://bucket/photos --table s3://bucket/captions
    """
    inputs = Inputs(
        work=str(work.absolute()),
        config=None if config is None else str(Path(config).absolute()),
        overrides=list(overrides),
        archives=list(archives),
        tables=list(tables),
    )
    found: list[Finding] = []
    for findings in examine(CHECKS, inputs):
        found += findings
        if not as_json:
            for finding in findings:
                click.echo(about(finding))
    bad = sum(finding.status == "wrong" for finding in found)
    if as_json:
        rows = [finding.model_dump() for finding in found]
        click.echo(json.dumps({"ok": not bad, "findings": rows}, indent=1))
    else:
        doubts = sum(finding.status == "warning" for finding in found)
        click.echo(f"\n{_counted(bad, doubts)}")
    sys.stdout.flush()
    context.exit(1 if bad else 0)


def about(finding: Finding) -> str:
    """A line of the report, and below it what to do."""
    word = click.style(f"{finding.status:<8}", fg=COLOURS[finding.status])
    text = report.escaped(f"{finding.subject}: {finding.text}")
    mend = f"\n{'':8}-> {report.escaped(finding.mend)}" if finding.mend else ""
    return f"{word}{text}{mend}"


def _counted(bad: int, doubts: int) -> str:
    if not bad and not doubts:
        return "all is well"
    warned = report.number(doubts, "warning")
    return f"{bad} wrong, {warned}" if bad else f"nothing is wrong; {warned}"
