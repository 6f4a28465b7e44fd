"""Captioners by name: what another process needs to load one."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.caption.recipe import Captioner


class Loader(BaseModel):
    """A function that makes a captioner, and its arguments in plain values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    function: str
    """module:name."""
    arguments: dict[str, Any] = {}

    def load(self) -> Captioner:
        """The captioner.

        Raises:
            CaptionmillError: whatever the function raises.
        """
        module, _, name = self.function.partition(":")
        captioner: Captioner = getattr(importlib.import_module(module), name)(**self.arguments)
        return captioner


def by_reference(
    ref: str, work: Path, *, device: str, dtype: str, threads: int | None = None
) -> Loader:
    """The loader of NAME@alias, NAME/version or a captioner's directory, resolved now.

    Args:
        ref: the reference.
        work: where the registry is.
        device: see `pipeline.predict.choose_device`.
        dtype: see `pipeline.predict.choose_dtype`.
        threads: of torch's on the CPU; None: its own choice.

    Raises:
        ModelNotFoundError: it names nothing.
    """
    if Path(ref).is_dir():
        directory = Path(ref).resolve()
        called = {"ref": str(directory), "name": directory.name, "version": ""}
    else:
        from pipeline.predict import parse_ref
        from pipeline.tracking import Tracker

        name, alias, version = parse_ref(ref)
        found = Tracker(work).resolve(name, alias=alias, version=version)
        directory = found.directory
        called = {
            "ref": f"{name}/{found.version}",
            "name": name,
            "version": str(found.version),
        }
    arguments = {"directory": str(directory.absolute()), "device": device, "dtype": dtype}
    return Loader(
        function=f"{__name__}:saved", arguments={**arguments, **called, "threads": threads}
    )


def saved(
    directory: str,
    *,
    device: str,
    dtype: str,
    ref: str,
    name: str,
    version: str,
    threads: int | None,
) -> Captioner:
    """A captioner's directory, loaded; `threads` of torch's on the CPU (None: its own choice)."""
    import torch

    from pipeline.predict.load import load_directory

    if threads is not None:
        torch.set_num_threads(threads)
    where = Path(directory)
    return load_directory(where, device=device, dtype=dtype, ref=ref, name=name, version=version)
