"""Averages of weights: a moving one while training, and the mean of several epochs' at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pipeline.models.captioner import Captioner


class MovingAverage:
    """An exponential moving average of the trained parameters.

    Batch statistics are the model's own. The decay of step n is at most (1 + n) / (10 + n), so
    that the first weights are soon forgotten.
    """

    def __init__(self, model: Captioner, decay: float) -> None:
        """Start from the model's weights; its trained parameters are those that ask for gradients now."""
        self.decay = decay
        self._parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
        self.tensors = {n: p.detach().clone() for n, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step`."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(
            list(self.tensors.values()), [p.data for p in self._parameters.values()], share
        )

    @contextlib.contextmanager
    def applied(self) -> Iterator[dict[str, Tensor]]:
        """The model has the average's weights for a while; yields its own."""
        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._set(self.tensors)
        try:
            yield own
        finally:
            self._set(own)

    def restore(self, own: dict[str, Tensor]) -> None:
        """Of a model that holds the average's weights: take them over, and give it its `own`."""
        for name, parameter in self._parameters.items():
            self.tensors[name].copy_(parameter.detach())
        self._set(own)

    def restart(self) -> None:
        """Anew from the model's weights."""
        for name, parameter in self._parameters.items():
            self.tensors[name].copy_(parameter.detach())

    @torch.no_grad()
    def _set(self, tensors: dict[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[name])


def mean_of(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of several models' tensors, summed in double precision; counters are the first's."""
    out = {}
    for name, first in states[0].items():
        if first.is_floating_point():
            total = torch.zeros_like(first, dtype=torch.float64)
            for state in states:
                total += state[name]
            out[name] = (total / len(states)).to(first.dtype)
        else:
            out[name] = first
    return out
