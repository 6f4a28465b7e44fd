"""Engines: who captions the units of a run. This one does it in the process that asks.

An engine knows no plan and no files of the table: units in, rows out. What it does twice it
does alike, so that a run may stop anywhere; exactly-once comes from the table's commits.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from pipeline.caption.connection import Connection
from pipeline.caption.fleet import Fleet
from pipeline.caption.loader import Loader
from pipeline.caption.process import Process
from pipeline.caption.ray_engine import RayFleet
from pipeline.caption.recipe import Captioner, describe
from pipeline.caption.room import readers
from pipeline.caption.stages import Stages
from pipeline.caption.tasks import Done, Task
from pipeline.caption.unit import UnitCaptioner
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.caption.attempts import AttemptsDirectory
    from pipeline.caption.copies import Place
    from pipeline.caption.marker import Marker
    from pipeline.caption.members import Archive
    from pipeline.caption.plan import Unit
    from pipeline.config import CaptionConfig


@dataclass(frozen=True)
class Opened:
    """An archive as this process has it open, and as another one opens it."""

    path: str
    """As given; names that are not UTF-8 as `os.fsdecode` writes them."""
    archive: Archive


@dataclass(frozen=True)
class Run:
    """What an engine is told of the run that it works for."""

    archives: Mapping[str, Opened]
    """By source name."""
    copies: Callable[[str, int, Sequence[str | None]], list[Place | None]]
    """`Copies.find`: asked in the order of the units."""
    attempts: AttemptsDirectory
    """What deaths of captioning processes have told."""
    progress: Callable[[int, int], object]
    """Told (members done, of them failed), from any thread; negative, where work was lost."""


class Engine(AbstractContextManager["Engine"], Protocol):
    """Captions units; leaving it ends whatever it started."""

    name: str
    """As reports call it."""
    stages: Stages
    """Busy seconds so far."""

    @property
    def threads(self) -> Mapping[str, int]:
        """Threads a stage."""

    def marker(self) -> Marker:
        """What rows are made with; the model is loaded then.

        Raises:
            CaptionmillError: the model cannot be loaded.
        """

    def run(self, run: Run, units: Iterable[Unit]) -> Generator[Done, None, None]:
        """Caption units; each is done once, whoever does it. Later ones are asked for ahead."""


class InProcess:
    """One captioner in this process. A decoder that crashes takes the run with it."""

    name = "in process"

    def __init__(self, config: CaptionConfig, captioner: Captioner) -> None:
        self.config, self.captioner = config, captioner
        self.stages = Stages()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @property
    def threads(self) -> Mapping[str, int]:
        """Threads a stage."""
        return dict.fromkeys(("read", "decode"), readers(1))

    def marker(self) -> Marker:
        """What rows are made with."""
        return describe(self.config, self.captioner)

    def run(self, run: Run, units: Iterable[Unit]) -> Generator[Done, None, None]:
        """Caption units in order."""
        worker = UnitCaptioner(
            self.config,
            self.captioner,
            self.marker(),
            lambda source: run.archives[source].archive,
            copies=run.copies,
            progress=lambda unit, members, failed: run.progress(members, failed),
            threads=readers(1),
        )
        rest = iter(units)

        def next_task(wait: bool) -> Task | None:
            unit = next(rest, None)
            return None if unit is None else Task(unit)

        with closing(worker.run(next_task)) as out:
            for done in out:
                self.stages.add(worker.stages.take())
                yield done


def engine(config: CaptionConfig, captioner: Captioner | Loader) -> Engine:
    """The engine for a captioner: by name it is loaded, and works, in processes of its own.

    Raises:
        ConfigError: `caption.engine` cannot work with it.
    """
    if not isinstance(captioner, Loader):
        if config.engine != "local":
            raise ConfigError(
                f"caption.engine = {config.engine} needs a captioner that other processes can load;"
                " give a Loader (pipeline.caption.loader), or set caption.engine = local"
            )
        return InProcess(config, captioner)
    loader = captioner
    if config.engine == "ray":
        return RayFleet(config, loader)

    def connect(number: int) -> Connection:
        return Process(config, loader, number)

    workers = None if config.workers == "auto" else config.workers
    return Fleet("local", connect, workers, config.hang_seconds)
