"""What is checked before a chain starts."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from flows import cli, direct
from pipeline.config import load_config
from pipeline.errors import ConfigError


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither Java nor pycocoevalcap."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("pipeline.metrics.meteor._jar", lambda: None)


@pytest.mark.usefixtures("no_programs")
@pytest.mark.parametrize("command", ["retrain", "demo"])
def test_meteor_without_java_stops_a_chain_before_any_work(command: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    arguments = [command, "--set", "score.meteor=true", "--work", str(work)]
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: METEOR needs the package pycocoevalcap")
    assert len(result.stderr.splitlines()) == 1
    assert not work.exists()


@pytest.mark.usefixtures("no_programs")
def test_programs_are_asked_for_only_where_they_are_needed() -> None:
    direct.check_scoring(load_config(None))
    with pytest.raises(ConfigError, match="METEOR"):
        direct.check_scoring(load_config(None, ["score.meteor=true"]))


@pytest.mark.parametrize(
    ("command", "setting"),
    [("retrain", "score.dtype"), ("demo", "score.dtype"), ("demo", "caption.dtype")],
)
def test_a_type_of_number_that_the_device_lacks_stops_a_chain_before_any_work(
    command: str, setting: str, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    chosen = ["--set", f"{setting}=float16", "--set", "device=cpu"]
    result = CliRunner().invoke(cli.main, [command, *chosen, "--work", str(work)])
    assert result.exit_code == 2
    assert result.stderr == (
        "error: dtype = 'float16' is not for device cpu: choose float32 or bfloat16\n"
    )
    assert not work.exists()
