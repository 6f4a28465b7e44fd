"""The command `captionmill deploy`: everything that a Prefect server has to know, registered."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

from flows.options import settings_options
from flows.orchestrator import quiet_prefect, server
from pipeline.errors import ConfigError


@click.command()
@click.option(
    "--archive",
    "archives",
    multiple=True,
    metavar="ARCHIVE",
    help="What `caption` captions; may be repeated.  [default: the demo's]",
)
@click.option(
    "--table", metavar="DIR", help="The table that it captions into.  [default: captions]"
)
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Another prefect.yaml, with schedules or pools of your own.",
)
@click.option(
    "--webhook-file",
    envvar="CAPTIONMILL_WEBHOOK_URL_FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Holds the URL that is told of failures and promotions; or set CAPTIONMILL_WEBHOOK_URL.",
)
@settings_options
def deploy(
    archives: tuple[str, ...],
    table: str | None,
    file: Path | None,
    webhook_file: Path | None,
    config: str | None,
    overrides: tuple[str, ...],
    work: Path,
) -> None:
    """Register the flows with a Prefect server.

    Work pools, deployments, schedules and notifications, with the server of PREFECT_API_URL. Run
    again, it changes what you name, and leaves parameters and schedules as they are registered, paused
    if you paused them; with --file they are the file's. Runs work in --work, and read their paths below
    the directory that this command is run in.

    \b
    Examples:
      captionmill deploy
      captionmill deploy -c configs/flickr8k.yaml --archive photos --table captions --work work
    """
    quiet_prefect()
    from flows.deployments import (
        PREFECT_YAML,
        as_registered,
        read_deployments,
        register,
        register_pool,
    )
    from flows.notifications import register_notifications

    directory = Path.cwd()
    url = webhook_url(webhook_file)
    changes: dict[str, Any] = {"work": str((directory / work).absolute())}
    if config is not None:
        changes["config"] = config
    if config is not None or overrides:
        changes["overrides"] = list(overrides)
    if archives:
        changes["archives"] = list(archives)
    if table is not None:
        changes["table"] = table
    deployments = read_deployments(file or PREFECT_YAML, changes)
    with server() as client:
        if file is None:
            deployments = [as_registered(client, each, set(changes)) for each in deployments]
        for deployment in deployments:
            deployment.check(directory)
        lines = []
        pools = sorted({deployment.work_pool.name for deployment in deployments})
        for pool in pools:
            lines.append(("work pool", pool, register_pool(client, pool)))
        for deployment in deployments:
            name = f"{deployment.flow().name}/{deployment.name}"
            lines.append(
                ("deployment", name, register(client, deployment, directory, keep=file is None))
            )
        told = register_notifications(client, url) if url else []
    for kind, name, new in lines:
        click.echo(f"{kind:<12}{name:<20}{'registered' if new else 'up to date'}")
    for name in told:
        click.echo(f"{'automation':<12}{name}")
    click.echo(about_next(pools, work, bool(told)))


def webhook_url(file: Path | None) -> str | None:
    """The webhook's address, of the file or of CAPTIONMILL_WEBHOOK_URL: never of the command line.

    Raises:
        ConfigError: the file cannot be read, or it is no http address.
    """
    given = os.environ.get("CAPTIONMILL_WEBHOOK_URL")
    if file is not None:
        try:
            given = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"--webhook-file {file} cannot be read: {error}") from None
    if given and not given.startswith(("http://", "https://")):
        raise ConfigError("the webhook is not an http:// or https:// address")  # it is a secret
    return given or None


def about_next(pools: list[str], work: Path, told: bool) -> str:
    """What a person does next."""
    from prefect.settings import PREFECT_UI_URL

    shown = shlex.quote(str(work))
    workers = [f"  prefect worker start --pool {pool} --limit 2" for pool in pools]
    rows = [
        "",
        "next, each in a terminal or service of its own, in this directory:",
        *workers,
        f"  captionmill watch --work {shown}",
        "",
        "run something now:",
        "  prefect deployment run retrain/retrain",
        "",
        f"look: {PREFECT_UI_URL.value()}",
    ]
    if not told:
        rows += [
            "",
            "notifications: none are set here; export CAPTIONMILL_WEBHOOK_URL and deploy again",
        ]
    return "\n".join(rows)
