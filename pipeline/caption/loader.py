"""Captioners by name: what another process needs to load one."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.caption.recipe import Captioner
from pipeline.caption.room import model_threads
from pipeline.memory import keep_freed_memory


class Loader(BaseModel):
    """A function that makes a captioner, and its arguments in plain values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    function: str
    """module:name."""
    arguments: dict[str, Any] = {}
    """One called `worker`, if it takes that, is the number of the process that loads it."""
    imports: tuple[str, ...] = ()
    """Modules that it takes long to import, and that the function needs."""

    @property
    def pinned(self) -> bool:
        """Whether it names the one device that all processes are to use."""
        return ":" in str(self.arguments.get("device", ""))

    def prepare(self) -> None:
        """Import what loading needs, so that a profile tells one from the other."""
        for module in self.imports:
            importlib.import_module(module)

    def load(self, worker: int = 0) -> Captioner:
        """The captioner, for the process of this number.

        Raises:
            CaptionmillError: whatever the function raises.
        """
        module, _, name = self.function.partition(":")
        own = {"worker": worker} if "worker" in self.arguments else {}
        arguments = {**self.arguments, **own}
        captioner: Captioner = getattr(importlib.import_module(module), name)(**arguments)
        return captioner


def by_reference(
    ref: str,
    work: Path,
    *,
    device: str,
    dtype: str,
    consensus: bool = True,
    threads: int | None = None,
) -> Loader:
    """The loader of NAME@alias, NAME/version or a captioner's directory, resolved now.

    Args:
        ref: the reference.
        work: where the registry is.
        device: see `pipeline.predict.choose_device`.
        dtype: see `pipeline.predict.choose_dtype`.
        consensus: see `pipeline.predict.load_captioner`.
        threads: of torch's on the CPU; None: see `room.model_threads`.

    Raises:
        ModelNotFoundError: it names nothing.
    """
    if Path(ref).is_dir():
        directory = Path(ref).resolve()
        called = {"ref": str(directory), "name": directory.name, "version": ""}
    else:
        from pipeline.tracking import Tracker
        from pipeline.tracking.refs import parse_ref  # predict's brings torch

        name, alias, version = parse_ref(ref)
        found = Tracker(work).resolve(name, alias=alias, version=version)
        directory = found.directory
        called = {
            "ref": f"{name}/{found.version}",
            "name": name,
            "version": str(found.version),
        }
    arguments = {"directory": str(directory.absolute()), "device": device, "dtype": dtype}
    more = {"consensus": consensus, "threads": threads, "worker": 0}
    return Loader(
        function=f"{__name__}:saved",
        arguments={**arguments, **called, **more},
        imports=("pipeline.predict.load",),
    )


def saved(
    directory: str,
    *,
    device: str,
    dtype: str,
    consensus: bool,
    ref: str,
    name: str,
    version: str,
    threads: int | None,
    worker: int = 0,
) -> Captioner:
    """A captioner's directory, loaded for the process of a number; see `by_reference`.

    Where no GPU is named, the processes take the GPUs in turn.
    """
    import torch

    from pipeline.predict import choose_device
    from pipeline.predict.load import load_directory

    keep_freed_memory()
    chosen = choose_device(device)
    torch.set_num_threads(threads if threads is not None else model_threads())
    if str(chosen) == "cuda":
        device = f"cuda:{worker % torch.cuda.device_count()}"
    where = Path(directory)
    called = {"ref": ref, "name": name, "version": version}
    return load_directory(where, device=device, dtype=dtype, consensus=consensus, **called)
