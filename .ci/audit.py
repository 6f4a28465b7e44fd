"""Known vulnerabilities of the locked packages: `make audit`.

Asks pip-audit, and holds what it says against docs/accepted-advisories.toml. Ends with 0 if every
package was checked and every advisory is accepted there with a reason; 1 if one is not; 2 if packages
could not be checked, which is no good news. `--report FILE` judges a report that was made elsewhere
(`pip-audit --format json`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
ACCEPTED = ROOT / "docs" / "accepted-advisories.toml"
SHOWN = 5


class Accepted(NamedTuple):
    """An advisory that is lived with for now."""

    package: str
    reason: str
    until: date


def accepted(file: Path) -> dict[str, Accepted]:
    """By identifier; each must have a package, a reason and a last day."""
    found = {}
    for identity, entry in tomllib.loads(file.read_text(encoding="utf-8")).items():
        if not isinstance(entry, dict) or set(entry) != {"package", "reason", "until"}:
            raise SystemExit(f"{file}: [{identity}] needs package, reason and until")
        if not str(entry["reason"]).strip() or not isinstance(entry["until"], date):
            raise SystemExit(f"{file}: [{identity}] needs a reason, and until = YYYY-MM-DD")
        found[identity] = Accepted(**entry)
    return found


def ask(lock: Path, more: list[str]) -> dict[str, Any] | None:
    """pip-audit's report on a lock file; none where it made none, which is told."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--no-deps"]
    command += ["--disable-pip", "--progress-spinner", "off", "--format", "json", *more]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(ended.stdout)
    except ValueError:
        last = (ended.stderr.strip().splitlines() or ["it said nothing"])[-1]
        tell_unchecked(f"pip-audit failed: {last}")
        return None
    return report


def tell_unchecked(what: str) -> None:
    """Say that nothing was learnt."""
    print(f"NOT CHECKED: {what}")
    print("no advisory service answered as it should: this says nothing about vulnerabilities.")
    print("Run it where PyPI's or OSV's service can be reached, or judge a report made there:")
    print("python .ci/audit.py --report FILE")


def judge(report: dict[str, Any], known: dict[str, Accepted], today: date) -> int:
    """Print what was found; the exit code."""
    packages = report.get("dependencies", [])
    unchecked = [each for each in packages if "skip_reason" in each or "vulns" not in each]
    checked = [each for each in packages if each not in unchecked]
    bad, met = 0, set()
    for package in checked:
        for advisory in package["vulns"]:
            names = [advisory["id"], *advisory.get("aliases", [])]
            entry = next((known[name] for name in names if name in known), None)
            met.update(set(names) & set(known))
            label = f"{package['name']} {package['version']}: {advisory['id']}"
            fixed = ", ".join(advisory.get("fix_versions", [])) or "no version yet"
            if entry is None or entry.package != package["name"]:
                bad += 1
                print(f"VULNERABLE {label}; mended in {fixed}")
            elif today > entry.until:
                bad += 1
                print(f"EXPIRED    {label} was accepted until {entry.until}; mended in {fixed}")
            else:
                print(
                    f"accepted   {label}: {entry.reason} (until {entry.until}; mended in {fixed})"
                )
    for identity in sorted(set(known) - met if not unchecked else set()):
        print(f"note       {identity} is accepted and no longer reported: delete its entry")
    if unchecked or not packages:
        names = ", ".join(each["name"] for each in unchecked[:SHOWN])
        more = f" and {len(unchecked) - SHOWN} more" if len(unchecked) > SHOWN else ""
        tell_unchecked(f"{len(unchecked)} of {len(packages)} packages ({names}{more})")
        return 1 if bad else 2
    print(f"{len(checked)} packages checked: {bad} to be mended or explained")
    return 1 if bad else 0


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, help="a report of pip-audit, instead of asking it")
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--accepted", type=Path, default=ACCEPTED)
    given, more = parser.parse_known_args(arguments)
    known = accepted(given.accepted)
    if given.report is not None:
        return judge(json.loads(given.report.read_text(encoding="utf-8")), known, date.today())
    report = ask(given.lock, more)
    return 2 if report is None else judge(report, known, date.today())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
