"""Where the time of a bulk run went, process by process and stage by stage: `caption --profile`.

TABLE/_profile.json holds the numbers, TABLE/_profile.svg the picture; both are of the last run
that was asked for one. A lane is what takes turns: the run itself, a process's model, or its threads
that read and decode.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pipeline import storage
from pipeline.caption.profile_svg import Strip, draw
from pipeline.caption.room import cores
from pipeline.caption.stages import Recorded, Stages, me
from pipeline.caption.timeline import now
from pipeline.records import Record, TableReport
from pipeline.remote import Location

RUN = ("start", "list", "await workers", "plan", "write", "account")
PICTURES = ("read", "decode")
MODEL = (*("imports", "load", "await pictures", "batch", "encode", "search", "rows", "send"),)
"""Stages by lane, in the order of the work."""

AWAIT_MODEL = "await model"
IDLE = "idle"


class Lane(Record):
    """What takes turns, and with what its time went."""

    name: str
    """run, pictures or model."""
    threads: int
    seconds: dict[str, float]
    """By stage; with `idle` they are the process's time, times `threads`."""


class ProcessProfile(Record):
    """A process."""

    name: str
    """run, or worker N in the order in which they came to work."""
    began: float
    """Seconds after the command."""
    seconds: float
    """From there to the end."""
    cpu_seconds: float
    """Of a core's time, from the process's start."""
    lanes: tuple[Lane, ...]


class Profile(Record):
    """`_profile.json`."""

    began: str
    seconds: float
    """From the command to the end."""
    first_row_seconds: float | None
    """From the command to the first committed unit; none where nothing was captioned."""
    pictures: int
    """Captioned, failed or skipped by this run."""
    cores: int
    """That this process may use."""
    bottleneck: str | None
    processes: tuple[ProcessProfile, ...]

    @property
    def busy_cores(self) -> float:
        """Cores in use on average, beside processes of the machine that are not ours."""
        return sum(process.cpu_seconds for process in self.processes) / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Measured:
    """What a run knows of its own time when it ends."""

    since: float
    """When the command began, by `timeline.now`."""
    first_row: float | None
    """When the first unit was committed."""
    pictures: int


def save_profile(table: Location, stages: Stages, report: TableReport, run: Measured) -> Profile:
    """Commit the numbers and the picture."""
    ended = now()
    names = _names(stages.recorded)
    seconds = ended - run.since
    processes: list[ProcessProfile] = []
    strips: list[Strip] = []
    for pid, recorded in stages.recorded.items():
        if pid == me():
            recorded.cpu = time.process_time()
        process = _process(names[pid], recorded, run.since, ended, run=pid == me())
        processes.append(process)
        reading = recorded.timeline.extent(*PICTURES)
        strips += [
            Strip(
                name=f"{process.name}: {lane.name}" if lane.name != "run" else "run",
                threads=lane.threads,
                seconds=lane.seconds,
                timeline=recorded.timeline,
                ground=(AWAIT_MODEL, reading) if lane.name == "pictures" and reading else None,
            )
            for lane in process.lanes
        ]
    profile = Profile(
        began=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(run.since)),
        seconds=round(seconds, 3),
        first_row_seconds=None if run.first_row is None else round(run.first_row - run.since, 3),
        pictures=run.pictures,
        cores=cores(),
        bottleneck=report.bottleneck,
        processes=tuple(processes),
    )
    title = f"{run.pictures:,} pictures in {seconds:,.1f} s, {run.pictures / seconds:,.1f} a second"
    about = [
        f"{profile.busy_cores:.2f} of {profile.cores} cores busy",
        f"bottleneck {report.bottleneck}" if report.bottleneck else "nothing captioned",
    ]
    if profile.first_row_seconds is not None:
        about.append(f"first rows after {profile.first_row_seconds:.1f} s")
    picture = draw(title, "; ".join(about), strips, run.since, ended)
    storage.commit(table / "_profile.svg", picture.encode())
    profile.save(table / "_profile.json")
    return profile


def _names(recorded: dict[str, Recorded]) -> dict[str, str]:
    others = [pid for pid in recorded if pid != me()]
    return {me(): "run"} | {pid: f"worker {n}" for n, pid in enumerate(others, 1)}


def _process(
    name: str, recorded: Recorded, since: float, ended: float, *, run: bool
) -> ProcessProfile:
    timeline = recorded.timeline
    extent = timeline.extent(*timeline.stages)
    began = since if run or extent is None else max(since, extent[0])
    seconds, spent = ended - began, timeline.seconds()
    lanes = [_lane("run", RUN, 1, spent, seconds)] if run else []
    if any(stage in spent for stage in PICTURES):
        lanes.append(_pictures(recorded, spent, seconds))
    if any(stage in spent for stage in MODEL):
        lanes.append(_lane("model", MODEL, 1, spent, seconds))
    return ProcessProfile(
        name=name,
        began=round(began - since, 3),
        seconds=round(seconds, 3),
        cpu_seconds=round(recorded.cpu, 3),
        lanes=tuple(lanes),
    )


def _pictures(recorded: Recorded, spent: dict[str, float], seconds: float) -> Lane:
    extent = recorded.timeline.extent(*PICTURES)
    assert extent is not None
    # As long as there is something to read, a thread that reads nothing is ahead of the model.
    free = recorded.readers * (extent[1] - extent[0]) - sum(spent.get(s, 0.0) for s in PICTURES)
    waiting = {**spent, AWAIT_MODEL: max(free, 0.0)}
    return _lane("pictures", (*PICTURES, AWAIT_MODEL), recorded.readers, waiting, seconds)


def _lane(
    name: str, stages: tuple[str, ...], threads: int, spent: dict[str, float], seconds: float
) -> Lane:
    found = {stage: round(spent[stage], 3) for stage in stages if spent.get(stage)}
    idle = max(threads * seconds - sum(found.values()), 0.0)
    return Lane(name=name, threads=threads, seconds={**found, IDLE: round(idle, 3)})
