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
