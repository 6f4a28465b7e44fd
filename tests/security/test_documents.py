"""What docs/security.md and docs/operations.md say is there, is there."""

from __future__ import annotations

import re
from pathlib import Path

from flows.command_group import EXIT_CODES

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("security.md", "operations.md")]


def test_every_file_they_name_exists() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for name in re.findall(r"`((?:tests|pipeline|flows|docker|configs)/[\w./]+)`", text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_operations_answers_every_exit_code() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    answered = set(re.findall(r"^\| (\d+) \|", text, re.MULTILINE))
    assert answered == set(re.findall(r"^ +(\d+) ", EXIT_CODES, re.MULTILINE)) - {"0"}


def test_operations_answers_every_notification() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    source = (ROOT / "flows" / "notifications.py").read_text(encoding="utf-8")
    kinds = re.findall(r'payload\("([\w-]+)"', source)
    assert kinds
    table = text.split("### Notifications")[1].split("\n### ")[0]
    assert set(kinds) == set(re.findall(r"^\| `([\w-]+)` \| (?!what)", table, re.MULTILINE))


def test_every_captionmill_command_they_show_exists() -> None:
    from flows import cli

    for page in PAGES:
        for name in re.findall(r"`?captionmill ([a-z-]+)", page.read_text(encoding="utf-8")):
            if name in ("reads", "refuses"):
                continue
            assert name in cli.main.commands, f"{page.name}: captionmill {name}"
