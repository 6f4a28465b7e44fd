"""Renaming another library's tensors, with an account of what was used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from pipeline.errors import WeightsError


class Tensors:
    """A checkpoint's tensors below a prefix; remembers which were taken."""

    def __init__(self, tensors: Mapping[str, Tensor], origin: str) -> None:
        self._tensors = tensors
        self.origin = origin
        """The checkpoint, for messages."""
        self.taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str) -> Tensor:
        """One tensor.

        Raises:
            WeightsError: there is none of that name, or it holds NaN or infinity, with which
                every caption would be empty.
        """
        if name not in self._tensors:
            raise WeightsError(
                f"{self.origin} lacks the tensor {name}; the checkpoint is incomplete"
            )
        tensor = self._tensors[name]
        if not tensor.isfinite().all():
            raise WeightsError(
                f"{self.origin}: the tensor {name} holds NaN or infinity; the checkpoint is damaged"
            )
        self.taken.add(name)
        return tensor

    def rename(self, modules: Iterable[tuple[str, str]]) -> dict[str, Tensor]:
        """Weights and biases of modules, (our name, their name) each."""
        return {
            f"{ours}.{kind}": self.take(f"{theirs}.{kind}")
            for ours, theirs in modules
            for kind in ("weight", "bias")
        }

    def tied(self, name: str, other: str) -> None:
        """Take `name` if it is there; it must equal `other`, whose weights it shares.

        Raises:
            WeightsError: they differ.
        """
        if name in self and not self.take(name).equal(self.take(other)):
            raise WeightsError(
                f"{self.origin}: {name} differs from {other}; only models that share them are supported"
            )

    def finish(self, unused: str) -> None:
        """Check that nothing is left but what the pattern `unused` names.

        Raises:
            WeightsError: tensors that the architecture has no place for.
        """
        left = sorted(
            name
            for name in self._tensors
            if name not in self.taken and re.fullmatch(unused, name) is None
        )
        if left:
            raise WeightsError(f"{self.origin} has tensors of another architecture: {shown(left)}")


def load(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Fill `module` with `state`, all of it.

    Raises:
        WeightsError: names or shapes that differ; the checkpoint's settings and tensors disagree.
    """
    own = module.state_dict()
    problems = [f"{name} missing" for name in own if name not in state]
    problems += [f"{name} unknown" for name in state if name not in own]
    problems += [
        f"{name} {list(state[name].shape)} instead of {list(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        raise WeightsError(f"{origin}: its config.json and its tensors disagree: {shown(problems)}")
    module.load_state_dict(dict(state))


def shown(names: list[str]) -> str:
    """The first few of `names`."""
    return ", ".join(names[:5]) + (f", … {len(names) - 5} more" if len(names) > 5 else "")
