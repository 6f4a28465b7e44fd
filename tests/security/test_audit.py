"""`make audit`'s judgement, on reports as pip-audit writes them."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def package(name: str, *advisories: str, aliases: tuple[str, ...] = ()) -> dict[str, Any]:
    vulns = [{"id": i, "fix_versions": ["2.0"], "aliases": list(aliases)} for i in advisories]
    return {"name": name, "version": "1.0", "vulns": vulns}


@pytest.fixture
def run(audit: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    def judged(packages: list[dict[str, Any]], allowed: str = "") -> tuple[int, str]:
        report, known = tmp_path / "report.json", tmp_path / "accepted.toml"
        report.write_text(json.dumps({"dependencies": packages, "fixes": []}))
        known.write_text(allowed)
        code = audit.main(["--report", str(report), "--accepted", str(known)])
        return code, capsys.readouterr().out

    return judged


def entry(identity: str, until: str = "2999-01-01", package: str = "pillow") -> str:
    return f'["{identity}"]\npackage = "{package}"\nreason = "not reachable"\nuntil = {until}\n'


def test_nothing_known(run: Any) -> None:
    assert run([package("pillow"), package("torch")]) == (
        0,
        "2 packages checked: 0 to be mended or explained\n",
    )


def test_an_advisory_fails_and_says_which_version_mends_it(run: Any) -> None:
    code, output = run([package("pillow", "GHSA-1"), package("torch")])
    assert code == 1
    assert "VULNERABLE pillow 1.0: GHSA-1; mended in 2.0" in output


@pytest.mark.parametrize("name", ["GHSA-1", "CVE-2026-1"])
def test_an_accepted_one_passes_by_any_of_its_names_with_its_reason(run: Any, name: str) -> None:
    code, output = run([package("pillow", "GHSA-1", aliases=("CVE-2026-1",))], entry(name))
    assert code == 0
    assert "accepted   pillow 1.0: GHSA-1: not reachable" in output


def test_acceptance_ends_on_its_day_and_counts_for_its_package_alone(run: Any) -> None:
    code, output = run([package("pillow", "GHSA-1")], entry("GHSA-1", until="2020-01-01"))
    assert (code, "EXPIRED" in output) == (1, True)
    code, output = run([package("torch", "GHSA-1")], entry("GHSA-1"))
    assert (code, "VULNERABLE" in output) == (1, True)


def test_an_entry_that_is_no_longer_needed_is_told(run: Any) -> None:
    code, output = run([package("pillow")], entry("GHSA-1"))
    assert code == 0
    assert "GHSA-1 is accepted and no longer reported" in output


def test_packages_that_were_not_checked_are_no_good_news(run: Any) -> None:
    skipped = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
    code, output = run([package("pillow"), skipped])
    assert code == 2
    assert "NOT CHECKED: 1 of 2 packages (torch)" in output
    assert "this says nothing about vulnerabilities" in output
    assert run([])[0] == 2


@pytest.mark.parametrize(
    "line", ['package = "x"', 'package = "x"\nreason = " "\nuntil = 2999-01-01']
)
def test_an_entry_needs_its_reason_and_its_day(run: Any, line: str) -> None:
    with pytest.raises(SystemExit, match="reason"):
        run([package("x")], f'["GHSA-1"]\n{line}\n')


def test_the_repositorys_own_list_is_well_formed(audit: ModuleType) -> None:
    audit.accepted(audit.ACCEPTED)


def test_a_service_that_is_away_is_told_plainly(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit.sys, "executable", "/bin/false")
    assert audit.main([]) == 2
    assert "NOT CHECKED: pip-audit failed" in capsys.readouterr().out
