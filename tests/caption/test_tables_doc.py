"""What docs/tables.md tells a reader to run gives what it says, on a table with a past."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline.caption import caption
from pipeline.caption.schema import COLUMNS, SCHEMA, SCHEMA_VERSION
from pipeline.config import CaptionConfig

DOC = (Path(__file__).parents[2] / "docs" / "tables.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", DOC, re.DOTALL)


@pytest.fixture
def here(
    folder: Path, tmp_path: Path, config: CaptionConfig, stub: Any, monkeypatch: pytest.MonkeyPatch,
    picture: Callable[..., bytes],
) -> Path:  # fmt: skip
    """A directory with the table `captions`: grown, marked, failed and refreshed rows."""
    monkeypatch.chdir(tmp_path)
    caption(config, [folder], Path("captions"), stub())
    (folder / "00.jpg").unlink()
    (folder / "bad.jpg").write_bytes(b"no picture")
    (folder / "new.jpg").write_bytes(picture(50))
    caption(config, [folder], Path("captions"), stub(fingerprint="4"), refresh=True)
    return tmp_path


def test_the_queries_run(here: Path) -> None:
    found = [
        duckdb.connect().execute(query).fetchall()
        for block in blocks("sql")
        for query in block.split(";")
        if query.strip()
    ]
    every, unsure, reasons = found
    assert len(every) == 11
    assert len(unsure) == 1
    assert unsure[0][3] == min(score for _, _, score in every)
    assert reasons == [("captioned", None, 11), ("failed", "not_an_image", 1)]


def test_the_python_runs(here: Path) -> None:
    counted = []
    for block in blocks("python"):
        done = subprocess.run(
            [sys.executable, "-c", block], capture_output=True, text=True, check=False, cwd=here
        )
        assert done.returncode == 0, done.stderr
        assert "a picture of red" in done.stdout or "shape: (0, 3)" in done.stdout
        counted.append(done.stdout.splitlines()[-1])
    assert counted[-1] == "12"


def test_every_column_is_described() -> None:
    rows = DOC.split("## Columns")[1].split("\n\n")[1]
    described = re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in rows.splitlines()))
    assert sorted(described) == sorted(COLUMNS)
    assert SCHEMA.metadata[b"captionmill.schema_version"].decode() == str(SCHEMA_VERSION)
    assert f"now {SCHEMA_VERSION})" in DOC


def test_every_file_of_a_table_is_described(here: Path) -> None:
    described = re.findall(r"^\| `([^`]+)`", DOC.split("## Columns")[0], re.MULTILINE)
    known = {name.split("/")[0].replace("<unit>", "*") for name in described}
    for path in (here / "captions").iterdir():
        assert any(path.match(name) for name in known) or path.name == ".lock", path.name
