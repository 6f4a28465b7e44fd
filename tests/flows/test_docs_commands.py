"""Every command line that README and docs/ show is one that the program accepts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from flows import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands(page: Path) -> Iterator[str]:
    """The `captionmill` lines of a page's code blocks, joined where they go on."""
    fence: str | None = None
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if line.strip().startswith("```"):
            fence = line.strip()[3:] if fence is None else None
            continue
        found = re.match(r" *(?:\$ )?(?:\S*/)?captionmill (.*)", line)
        drawn = re.search("[─│▶]", line)  # a picture of the parts
        if fence in ("", "bash", "sh", "console") and found and not drawn:
            yield found[1]


def words(line: str) -> list[str]:
    """A line's words without its comment, and without what a shell would do with the output."""
    plain = shlex.split(line, comments=True)
    ends = [plain.index(sign) for sign in ("|", ">", "&&", "&") if sign in plain]
    return plain[: min(ends, default=len(plain))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_accepted(page: Path) -> None:
    refused = []
    for line in commands(page):
        if "..." in line:
            continue  # says that something is left out
        group: click.Command = cli.main
        context, rest = cli.main.make_context("captionmill", words(line) or ["--help"]), words(line)
        try:
            while isinstance(group, click.Group) and rest and rest[0] in group.commands:
                group, rest = group.commands[rest[0]], rest[1:]
            if isinstance(group, click.Group) and group is cli.main:
                refused.append(f"{line}: no such command")
                continue
            group.make_context(group.name, list(rest), parent=context)
        except click.ClickException as error:
            if "does not exist" not in error.format_message():
                refused.append(f"{line}: {error.format_message()}")
    assert refused == []


def test_lines_are_found() -> None:
    assert sum(1 for page in PAGES for _ in commands(page)) > 40
    assert words("caption a --table t   # why > what") == ["caption", "a", "--table", "t"]
    assert words("export t --to csv > file") == ["export", "t", "--to", "csv"]
