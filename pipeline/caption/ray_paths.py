"""Archives by paths that mean the same on another node, and whether they do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.caption import wire
from pipeline.remote import is_url


def absolute(path: str) -> str:
    """The path as a process in another directory must be given it."""
    return path if is_url(path) else str(Path(path).expanduser().absolute())


def landmark(path: str, task: dict[str, Any]) -> tuple[str, int] | None:
    """A file of an archive, and its size here: a node that does not see it sees another archive.

    Args:
        path: of the archive, absolute.
        task: as `wire.task_to_json` gives it.

    Returns:
        The archive itself, or the first picture of a unit of a folder; None where that is not here
        either, or lies in object storage, which is the same for all.
    """
    if is_url(path):
        return None
    file = Path(path)
    if file.is_dir():
        name = wire.first_input(task)
        if name is None:
            return None
        file /= name
    try:
        return str(file), file.stat().st_size
    except OSError:
        return None


def is_here(landmark: tuple[str, int]) -> bool:
    """Whether this machine sees it."""
    path, size = landmark
    try:
        return Path(path).stat().st_size == size
    except OSError:
        return False
