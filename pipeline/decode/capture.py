"""A search's steps as CUDA graphs: a GPU repeats recorded work without waiting for Python.

A few steps at a time are recorded for each batch size and place in the caption, the second time
they are needed (the first warms up, and shapes that occur once cost nothing). On other devices,
and for a model whose steps a GPU could not record, the steps simply run.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from pipeline.progress import say

Tree = TypeVar("Tree")
"""Dataclasses and tuples of tensors; what else they hold is the same at every call."""


def captured(
    model: nn.Module, key: Hashable, run: Callable[[Tree], Tree], given: Tree, device: torch.device
) -> Tree:
    """run(given), on a CUDA device from a recording where there is one.

    Args:
        model: whose parameters `run` reads; its recordings go when it goes.
        key: what `run` depends on, beside the model and the shapes in `given`.
        run: device work without host synchronisation. It may write into `given`'s tensors what
            running again would write again.
        given: read before the next call with the same key and shapes overwrites it.
        device: where it runs.
    """
    if not _records(device):
        return run(given)
    recordings = _RECORDINGS.setdefault(model, {})
    if recordings is None:
        return run(given)
    shapes = tuple((tensor.shape, tensor.dtype) for tensor in tensors(given))
    places = tuple(parameter.data_ptr() for parameter in model.parameters())
    whole = (key, shapes, places)
    if whole not in recordings:
        recordings[whole] = None
        return run(given)
    recording = recordings[whole]
    if recording is None:
        try:
            recording = _Recording(run, given)
        except RuntimeError as error:  # all that CUDA refuses, memory for the recording included
            _RECORDINGS[model] = None
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            say("search", f"CUDA graphs cannot be recorded, captioning goes on slower: {reason}")
            return run(given)
        recordings[whole] = recording
    outcome: Tree = recording.replay(given)
    return outcome


class _Recording:
    """Work on fixed tensors: those of the first call, into which later calls' are copied."""

    def __init__(self, run: Callable[[Any], Any], given: Any) -> None:
        self.run = run  # keeps alive what the recorded work reads
        self.given = tensors(given)
        self.repeat, self.outcome = _record(run, given)

    def replay(self, given: Any) -> Any:
        """The outcome for what is given; valid until the next replay."""
        for fixed, new in zip(self.given, tensors(given), strict=True):
            # Most are the last steps' own outcome, in place already.
            if fixed.data_ptr() != new.data_ptr():
                fixed.copy_(new)
        self.repeat()
        return self.outcome


_RECORDINGS: WeakKeyDictionary[nn.Module, dict[Hashable, _Recording | None] | None] = (
    WeakKeyDictionary()
)
"""Of a model; None where recording failed."""


def _records(device: torch.device) -> bool:
    return device.type == "cuda"


def _record(run: Callable[[Any], Any], given: Any) -> tuple[Callable[[], None], Any]:
    graph = torch.cuda.CUDAGraph()
    # The next batch is encoded meanwhile, by another thread: only this one's calls are judged.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outcome = run(given)
    return graph.replay, outcome


def tensors(tree: Any) -> list[Tensor]:
    """Every tensor of nested dataclasses and tuples, always in the same order."""
    return list(_walk(tree))


def _walk(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif is_dataclass(tree):
        for field in fields(tree):
            yield from _walk(getattr(tree, field.name))
    elif isinstance(tree, tuple):
        for part in tree:
            yield from _walk(part)
