"""How a registered model is named: NAME@alias or NAME/version."""

from __future__ import annotations

import re

from pipeline.errors import ModelNotFoundError


def parse_ref(ref: str) -> tuple[str, str | None, int | None]:
    """NAME@alias or NAME/version as (name, alias, version).

    Raises:
        ModelNotFoundError: neither of the two, and not a directory.
    """
    found = re.fullmatch(
        r"(?P<name>[A-Za-z0-9][\w.\-]*)(@(?P<alias>[\w.\-]+)|/(?P<version>\d+))", ref
    )
    if found is None:
        raise ModelNotFoundError(
            f"model {ref!r} is neither NAME@alias, NAME/version nor a captioner's directory"
        )
    version = found["version"]
    return found["name"], found["alias"], int(version) if version else None
