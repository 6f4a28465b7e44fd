"""The simulation of docs/scale.md at a hundredth of its size: nothing lost, nothing doubled."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "scale_simulation.py"


def simulate(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_thousand_units_with_deaths_and_kills(tmp_path: Path) -> None:
    found = simulate(tmp_path, "--units", 1000, "--kills", 3)
    assert found.returncode == 0, found.stdout + found.stderr
    lines = found.stdout.splitlines()
    assert sum(line.endswith("; killed") for line in lines) == 3
    assert sum(line.endswith("; whole") for line in lines) == 1
    assert "workers lost" in found.stdout
    assert "stragglers" in found.stdout
    assert lines[-1] == "nothing is lost, doubled or wrong"


@pytest.mark.slow
def test_the_check_can_fail(tmp_path: Path) -> None:
    found = simulate(tmp_path, "--units", 4, "--kills", 0)
    assert found.returncode == 0, found.stdout + found.stderr
    lost, doubled, wrong, _ = sorted((tmp_path / "table").glob("*.parquet"))
    pq.write_table(pq.read_table(lost).slice(1), lost)
    rows = pq.read_table(doubled)
    pq.write_table(pa.concat_tables([rows, rows.slice(1)]), doubled)
    rows = pq.read_table(wrong)
    pq.write_table(rows.set_column(7, "caption", pa.array(["another"] * len(rows))), wrong)
    told = simulate("--apart", "check", tmp_path / "table", 8).stdout
    for what in ("lost", "doubled"):
        assert f'"{what}": 1' in told
    assert '"wrong": 2' in told
