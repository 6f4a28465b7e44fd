"""A captioning run as a user starts it: a new process, which writes a profile. For caption_rate.py."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from pipeline.caption.profile import Profile

ROOT = Path(__file__).parents[2]

# What `captionmill caption` does, without the command line, which asks for an installed package.
COMMAND = """
import sys
from pathlib import Path
from flows.direct import caption_archives
from pipeline.caption.timeline import process_began
from pipeline.config import load_config
images, table, *overrides = sys.argv[1:]
settings = load_config(None, overrides)
caption_archives(settings, Path(table).parent, [Path(images)], Path(table), since=process_began())
"""


class Ran(NamedTuple):
    """A run."""

    profile: Profile
    parts: dict[str, bytes]
    """By name: equal parts are equal rows."""
    commits: list[tuple[float, int]]
    """When each part was committed, in seconds, and its rows; in order."""

    @property
    def steady(self) -> float:
        """Pictures a second from when a third of them was committed: all processes work then."""
        done = list(itertools.accumulate(rows for _, rows in self.commits))
        first = next(n for n, rows in enumerate(done) if 3 * rows >= done[-1])
        return (done[-1] - done[first]) / (self.commits[-1][0] - self.commits[first][0])

    @property
    def whole(self) -> float:
        """Pictures a second from the command to its end."""
        return self.profile.pictures / self.profile.seconds


def caption(
    scratch: Path, images: Path, settings: Sequence[str], cores: Collection[int] | None = None
) -> Ran:
    """Caption a folder into a new table, on these cores."""
    table = scratch / "table"
    shutil.rmtree(table, ignore_errors=True)

    def keep_to_cores() -> None:
        if cores is not None:
            os.sched_setaffinity(0, cores)

    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(images), str(table), "caption.profile=true", *settings],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        preexec_fn=keep_to_cores,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"captioning failed:\n{done.stderr}")
    paths_of = sorted(table.glob("*.parquet"))
    parts = {path.name: path.read_bytes() for path in paths_of}
    commits = [(path.stat().st_mtime, pq.read_metadata(path).num_rows) for path in paths_of]
    return Ran(Profile.load(table / "_profile.json"), parts, sorted(commits))
