"""What tries of a unit have told whose process died: TABLE/_attempts/<unit>.json.

Committed after every death, so that it survives the run itself, and removed when the unit is
done. A unit that a process died of is tried again one picture at a time; a picture is to blame
when so many processes in a row died at it and nothing else: `TRIES` that crashed, `TRIES_HUNG` that
the run ended since they did nothing any more, `TRIES_KILLED` that somebody killed, which may have been
the kernel out of memory, or a person by chance.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline import storage
from pipeline.caption.plan import Unit
from pipeline.caption.tasks import Killer, Step, Task
from pipeline.errors import WorkerError
from pipeline.records import Record
from pipeline.remote import Location

TRIES = 3
TRIES_HUNG = 2
TRIES_KILLED = 6
"""Deaths in a row at one step that make it the cause."""

HOPELESS = 12
"""Deaths in a row that came no nearer to a cause."""


class _Blamed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    member: str
    occurrence: int
    code: Literal["decoder_crash", "captioner_crash", "decoder_hang", "captioner_hang"]
    bytes: int | None
    sha256: str | None


class Attempts(Record):
    """Deaths of processes that worked on one unit."""

    unit: str
    deaths: int = 0
    """All of them."""
    in_vain: int = 0
    """Those since something was learnt."""
    step: tuple[str, int] | None = None
    """Kind and place of what the last process was doing."""
    times: int = 0
    """Deaths in a row at it."""
    alone: list[int] = Field(default_factory=list)
    """Places of batches whose pictures are tried one by one."""
    blamed: list[_Blamed] = Field(default_factory=list)

    def task(self, unit: Unit) -> Task:
        """The unit as it is to be tried next."""
        killers = {
            (one.member, one.occurrence): Killer(one.code, one.bytes, one.sha256)
            for one in self.blamed
        }
        return Task(unit, killers, careful=self.deaths > 0, alone=frozenset(self.alone))

    def after(
        self, unit: Unit, step: Step | None, how: str, *, crashed: bool, hung: bool = False
    ) -> Attempts:
        """What is known after one more death, at this step (None: nobody knows).

        `how` it ended, in words; `crashed`: of its own doing, or for want of memory; `hung`: it was
        ended since it did nothing any more.

        Raises:
            WorkerError: the unit is beyond help.
        """
        here = (step.kind, step.place) if step is not None else None
        times = self.times + 1 if here is not None and here == self.step else 1
        more = {"deaths": self.deaths + 1, "step": here, "times": times}
        tries = TRIES_HUNG if hung else TRIES if crashed else TRIES_KILLED
        if step is not None and times >= tries:
            learnt = self._learn(unit, step, "hang" if hung else "crash")
            if learnt:
                fresh = {"step": None, "times": 0, "in_vain": 0}
                return self.model_copy(update=more | fresh | learnt)
        if self.in_vain + 1 >= HOPELESS:
            raise WorkerError(
                f"{self.in_vain + 1} processes died while they captioned unit {self.unit}"
                f" ({unit.source}, from {unit.members[0].name!r} on), and no single picture is to"
                f" blame; the last one {how}. Run the same command again to go on"
            )
        return self.model_copy(update={**more, "in_vain": self.in_vain + 1})

    def _learn(self, unit: Unit, step: Step, end: str) -> dict[str, object]:
        if step.kind == "batch":
            # Told once, the batch is no longer a suspect: one of its pictures is, or none.
            return {} if step.place in self.alone else {"alone": [*self.alone, step.place]}
        member = unit.members[step.place]
        where = "captioner" if step.kind == "alone" else "decoder"
        blamed = _Blamed.model_validate(
            {
                "member": member.name,
                "occurrence": member.occurrence,
                "code": f"{where}_{end}",
                "bytes": step.size if step.size is not None else member.size,
                "sha256": step.sha256,
            }
        )
        return {"blamed": [*self.blamed, blamed]}


class AttemptsDirectory:
    """TABLE/_attempts; under the table's lock only."""

    def __init__(self, directory: Location, done: Collection[str] = ()) -> None:
        """`done` are finished units: a kill may have left what was known of them."""
        self.directory = directory
        self._known = {path.stem for path in directory.glob("*.json")}
        self._met: set[str] = set()
        for unit in sorted(self._known.intersection(done)):
            self.forget(unit)

    def load(self, unit: str) -> Attempts:
        """What earlier tries have told; a file that cannot be read has told nothing."""
        if unit not in self._known:
            return Attempts(unit=unit)
        try:
            found = Attempts.load(self._path(unit))
        except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError, ValidationError):
            return Attempts(unit=unit)
        # Another run, another chance.
        return found if unit in self._met else found.model_copy(update={"in_vain": 0})

    def save(self, attempts: Attempts) -> None:
        """Commit what is known now."""
        attempts.save(self._path(attempts.unit))
        self._known.add(attempts.unit)
        self._met.add(attempts.unit)

    def forget(self, unit: str) -> None:
        """Remove what was known: the unit is done."""
        if unit in self._known:
            storage.remove(self._path(unit))
            self._known.discard(unit)

    def _path(self, unit: str) -> Location:
        return self.directory / f"{unit}.json"
