"""Stages called in this process, without Prefect; the flows' tasks call the same functions."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pipeline import storage
from pipeline.config import Config, load_config
from pipeline.memory import keep_freed_memory
from pipeline.records import Checkpoint, Decision, ScoreCard, ShardSet, TableReport
from pipeline.remote import Location

if TYPE_CHECKING:
    from pipeline.caption import Standing
    from pipeline.caption.loader import Loader
    from pipeline.caption.marker import Marker

DEMO_CONFIG = Path(__file__).with_name("demo.yaml")


class Chain(NamedTuple):
    """The records of a retraining, in the order of its stages."""

    shard_set: ShardSet
    checkpoint: Checkpoint
    score_card: ScoreCard
    decision: Decision

    def to_json(self) -> dict[str, Any]:
        """By name, as plain values."""
        return {name: record.model_dump(mode="json") for name, record in self._asdict().items()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The inverse of `to_json`; further keys are passed over."""
        return cls(
            ShardSet.model_validate(value["shard_set"]),
            Checkpoint.model_validate(value["checkpoint"]),
            ScoreCard.model_validate(value["score_card"]),
            Decision.model_validate(value["decision"]),
        )


def demo_settings(
    work: Path, config: str | None = None, overrides: list[str] | None = None
) -> Config:
    """The demo's settings, or those of another file, reading what `demo` generates in `work`."""
    data_root = f"data_root={json.dumps(str(work / 'demo'))}"
    settings = load_config(config or DEMO_CONFIG, [data_root, *(overrides or [])])
    check_scoring(settings)
    check_dtype(settings.caption.dtype, settings.device)
    return settings


def check_scoring(settings: Config) -> None:
    """Stop before any work of a chain if its scores could not be computed at the end.

    Raises:
        ConfigError: METEOR is asked for and Java or its package is missing, or the device does
            not calculate in `score.dtype`.
        DataError: the stored document frequencies cannot be read.
    """
    check_dtype(settings.score.dtype, settings.device)
    if settings.score.document_frequencies is not None:
        from pipeline.evaluate import stored_frequencies

        stored_frequencies(settings)
    if settings.score.meteor:
        from pipeline.metrics.meteor import require_meteor

        require_meteor()


def check_dtype(dtype: str, device: str) -> None:
    """Stop before any work if `device` does not calculate in `dtype`; float32 always works.

    Raises:
        ConfigError: it does not.
    """
    if dtype != "float32":
        with uninterrupted():
            from pipeline.predict import choose_device, choose_dtype
        choose_dtype(dtype, choose_device(device))


def model_directory(ref: str, work: Path) -> Path:
    """The files of NAME@alias, NAME/version or a captioner's directory.

    Raises:
        ModelNotFoundError: it names nothing; says what there is.
    """
    if ref and Path(ref).is_dir():
        return Path(ref).resolve()
    from pipeline.tracking import Tracker
    from pipeline.tracking.refs import parse_ref

    name, alias, version = parse_ref(ref)
    return Tracker(work).resolve(name, alias=alias, version=version).directory


def promotion_records(settings: Config, work: Path) -> tuple[ShardSet, Checkpoint, ScoreCard]:
    """What `promote` takes, of these settings.

    Raises:
        DataError: a stage before it was not run.
    """
    with uninterrupted():  # the stages' modules import torch
        from pipeline.score import find_score_card
        from pipeline.shard import find_shard_set
        from pipeline.train import find_checkpoint
    shard_set = find_shard_set(settings, work)
    checkpoint = find_checkpoint(settings, work, shard_set)
    return shard_set, checkpoint, find_score_card(settings, work, shard_set, checkpoint)


def caption_archives(
    settings: Config,
    work: Path,
    archives: Sequence[Location],
    table: Location | None = None,
    *,
    refresh: bool = False,
    prune: bool = False,
    prune_all: bool = False,
    progress: Callable[[Standing], object] | None = None,
    since: float | None = None,
) -> TableReport:
    """Caption `archives` into `table`, in a process of its own that loads the captioner.

    Without a `table` it lies in the work directory, named after the model and the settings,
    so that another champion gets another table. A profile counts from `since`, else from now.
    See `pipeline.caption.caption`.
    """
    from pipeline.caption.timeline import now

    since = now() if since is None else since
    from pipeline import caption as stage

    loader = captioner_loader(settings, work)
    if table is None:
        from pipeline.models.saved import model_fingerprint

        fingerprint = model_fingerprint(Path(loader.arguments["directory"]))
        identity = storage.fingerprint([fingerprint, settings.caption.content()])
        table = work / "captions" / f"{loader.arguments['ref'].replace('/', '-')}-{identity}"
    return stage.caption(
        settings.caption,
        archives,
        table,
        loader,
        refresh=refresh,
        prune=prune,
        prune_all=prune_all,
        progress=progress,
        since=since,
    )


def captioner_loader(settings: Config, work: Path) -> Loader:
    """What loads the captioner of `settings.caption`; its reference is resolved now.

    Raises:
        ModelNotFoundError: it names nothing.
    """
    from pipeline.caption.loader import by_reference

    with uninterrupted():
        return by_reference(
            settings.caption.model,
            work,
            device=settings.device,
            dtype=settings.caption.dtype,
            consensus=settings.caption.consensus,
            threads=settings.threads,
        )


def table_marker(settings: Config, work: Path, table: Location) -> Marker:
    """What the rows would be made with that `caption_archives` would write.

    Raises:
        TableError: `table` is not a caption table; told before the captioner is loaded.
    """
    from pipeline.caption.recipe import describe
    from pipeline.caption.table import Table

    Table(table).require()
    loader = captioner_loader(settings, work)
    prepare_torch(settings)
    return describe(settings.caption, loader.load())


def prepare_torch(settings: Config) -> None:
    """Import torch, and let it use `threads` threads on the CPU if the settings say so."""
    keep_freed_memory()
    with uninterrupted():
        import torch
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back for the length of an import: inside torch's it would abort the process."""
    pending: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, _frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if pending:
        raise KeyboardInterrupt
