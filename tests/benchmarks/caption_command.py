"""A captioning run as a user starts it: a new process, which writes a profile. For caption_rate.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

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

    @property
    def working(self) -> float:
        """Pictures a second from when the first process had loaded the model and all was planned."""
        (run,) = (lane for lane in self.profile.processes[0].lanes if lane.name == "run")
        before = sum(run.seconds.get(s, 0.0) for s in ("start", "list", "await workers", "plan"))
        return self.profile.pictures / (self.profile.seconds - before)

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
    parts = {path.name: path.read_bytes() for path in sorted(table.glob("*.parquet"))}
    return Ran(Profile.load(table / "_profile.json"), parts)
