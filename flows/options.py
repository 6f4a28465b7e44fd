"""The options that commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

work_option = click.option(
    "--work",
    default="captionmill-work",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The one place that all output goes to.",
)


def said(words: str) -> str:
    """Words that are kept in records and tags; a usage error where their bytes are no UTF-8."""
    try:
        words.encode()
    except UnicodeEncodeError:
        given = words.encode(errors="surrogateescape")
        raise click.BadParameter(f"{given!r} is not UTF-8") from None
    return words


def settings_options(command: Command) -> Command:
    """-c, --set and --work, which every command takes alike."""
    for option in (
        work_option,
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="A.B=VALUE",
            help="Change a setting; may be repeated.",
        ),
        click.option("-c", "--config", metavar="FILE", help="A YAML file of settings."),
    ):
        command = option(command)
    return command
