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


def in_prose(page: Path) -> Iterator[list[str]]:
    """The words of commands between backticks, with or without the program's name before them."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    for span in re.findall(r"`([^`]+)`", text):
        plain = span.replace("\n", " ").removeprefix("captionmill ").split()
        if plain and plain[0] in cli.main.commands:
            yield plain


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_in_the_text_is_known(page: Path) -> None:
    unknown = []
    for first, *rest in in_prose(page):
        known = {name for each in cli.main.commands[first].params for name in each.opts}
        given = {word.partition("=")[0].rstrip(",") for word in rest if word.startswith("--")}
        unknown += [f"{first}: {name}" for name in given - known - {"--help"}]
    assert unknown == []


def test_lines_are_found() -> None:
    assert sum(1 for page in PAGES for words in in_prose(page) if len(words) > 1) > 30
    assert sum(1 for page in PAGES for _ in commands(page)) > 40
    assert words("caption a --table t   # why > what") == ["caption", "a", "--table", "t"]
    assert words("export t --to csv > file") == ["export", "t", "--to", "csv"]
