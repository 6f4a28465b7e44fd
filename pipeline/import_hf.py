"""`import-hf`: a Hugging Face checkpoint into the registry, ready to caption with.

The first model of a name becomes its champion, so that `caption` works at once. Where there is
a champion already, an import moves no alias unless it is told to: it was never scored.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pipeline import storage
from pipeline.errors import ConfigError
from pipeline.models.importers import import_checkpoint
from pipeline.progress import say
from pipeline.tracking import ModelVersion, Tracker
from pipeline.tracking.registry import NAME

AUTO, NO_ALIAS = "auto", "none"
ALIAS = re.compile(r"(?!latest$|v\d+$)[a-z][a-z0-9_\-]{0,99}")
"""What MLflow takes, of it."""


@dataclass(frozen=True)
class Imported:
    """A registered import, for the summary."""

    version: ModelVersion
    aliases: tuple[str, ...]
    """Those that point at it now."""
    champion: int | None
    """The version that is champion now."""


def import_hf(source: str, work: Path, *, name: str = "captioner", alias: str = AUTO) -> Imported:
    """Register the checkpoint `source` as a version of `name`.

    The same checkpoint is the same version again.

    Args:
        source: a checkpoint's directory, or OWNER/NAME[@REVISION] on the Hugging Face hub.
        work: the work directory whose registry gets it.
        name: the registered model's name.
        alias: auto (champion if `name` has none, else no alias), none, or the alias to point at
            the new version; `champion` keeps the former one as `previous`.

    Raises:
        ConfigError: a name or alias that the registry does not take, or MLflow is missing.
        ModelError: not a checkpoint, or one that cannot be expressed; says what and why.
        WeightsError: tensors that are missing or do not fit.
        BusyError: a promotion or another import runs in `work`.
    """
    _check(name, alias)
    saved, notes = import_checkpoint(source)
    for note in notes:
        say("import", note)
    work = work.absolute()
    with storage.lock(work / "promote"):  # promotions move the same aliases
        tracker = Tracker(work)
        with tempfile.TemporaryDirectory(prefix=storage.TEMPORARY, dir=work) as place:
            saved.save(Path(place))
            version = tracker.register(name, Path(place), run_id=None)
        tracker.tag(version, {"source": source, **saved.provenance})
        return _settle(tracker, tracker.resolve(name, version=version.version), alias)


def _check(name: str, alias: str) -> None:
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"--name {name!r}: a model's name is letters, digits, '.', '_' and '-', 100 at most"
        )
    if not ALIAS.fullmatch(alias):
        raise ConfigError(
            f"--alias {alias!r}: an alias is lower-case letters, digits, '_' and '-'; "
            f"or {AUTO} or {NO_ALIAS}"
        )


def _settle(tracker: Tracker, version: ModelVersion, alias: str) -> Imported:
    """Point the aliases where they belong; again does nothing."""
    name, number = version.name, version.version
    before = tracker.aliases(name)
    champion = before.get("champion")
    if alias == AUTO:
        wanted = {"champion": number} if champion is None else {}
    elif alias == "champion" and champion is not None and champion != number:
        wanted = {"previous": champion, "champion": number}
    else:
        wanted = {} if alias == NO_ALIAS else {alias: number}
    for key, value in wanted.items():
        if before.get(key) != value:
            tracker.set_alias(name, key, value)
    after = {**before, **wanted}
    mine = tuple(sorted(key for key, value in after.items() if value == number))
    return Imported(version, mine, after.get("champion"))
