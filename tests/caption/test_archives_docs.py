"""docs/archives.md names every code and reason, and configs/bulk.yaml is valid."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.caption.members import EXTENSIONS, FAILED, SKIPPED
from pipeline.config import load_config
from pipeline.images import CODES

ROOT = Path(__file__).parents[2]


def test_every_code_and_extension_is_documented() -> None:
    text = (ROOT / "docs" / "archives.md").read_text()
    told = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert {*FAILED, *SKIPPED, *CODES} <= told
    assert f"`{' '.join(sorted(EXTENSIONS))}`" in " ".join(text.split())


def test_the_configuration_for_bulk_work_is_valid() -> None:
    assert load_config(ROOT / "configs" / "bulk.yaml").caption.unit_size == 256
