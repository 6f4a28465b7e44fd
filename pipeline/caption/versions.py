"""Versions of what moves a row, to tell whether two machines make the same ones."""

from __future__ import annotations

from importlib import metadata

from pipeline.caption.recipe import RECIPE

LIBRARIES = ("captionmill", "torch", "torchvision", "numpy", "pillow")


def versions() -> dict[str, str | None]:
    """By name, without what says which device a build is for (`+cpu`); None: not installed."""
    found: dict[str, str | None] = {"captioning recipe": str(RECIPE)}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            found[name] = None
    return found
