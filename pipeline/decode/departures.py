"""When finished pictures leave a search: a few fixed batch sizes, and no waiting for a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

GPU_STRIDE = 4
"""Steps between two looks at a GPU's progress."""


def stride(device: torch.device) -> int:
    """Steps a search takes between two looks at who is done."""
    return GPU_STRIDE if device.type == "cuda" else 1


def batch_sizes(pictures: int) -> list[int]:
    """The sizes a batch may shrink to: quarters of it, then halves, smallest last."""
    sizes = {-(-pictures * quarters // 4) for quarters in (1, 2, 3, 4)}
    small = min(sizes)
    while small > 1:
        small = -(-small // 2)
        sizes.add(small)
    return sorted(sizes, reverse=True)


class Departures:
    """Decides at each look which pictures go on.

    On a GPU it takes the count that was on its way since the last look, so that the GPU never
    waits for the host: pictures leave a little later, and a count too old is too high, which is
    safe.
    """

    def __init__(self, pictures: int) -> None:
        self.sizes = batch_sizes(pictures)
        self._pending: tuple[Tensor, torch.cuda.Event] | None = None

    def staying(self, going_B: Tensor) -> Tensor | None:
        """The pictures to go on with [K], none if all are done; None to change nothing.

        Finished pictures may be among them, to fill up the size; the unfinished are all there.
        """
        count = self._count(going_B)
        if count is None:
            return None
        if count == 0:
            return going_B.new_empty(0, dtype=torch.long)
        size = min(size for size in self.sizes if size >= count)
        if size >= len(going_B):
            return None
        first = going_B.int().sort(descending=True, stable=True).indices[:size]
        return first.sort().values

    def _count(self, going_B: Tensor) -> int | None:
        if going_B.device.type != "cuda":
            return int(going_B.sum())
        arrived = self._pending
        count = torch.empty((), dtype=torch.long, pin_memory=True)
        count.copy_(going_B.sum(), non_blocking=True)
        event = torch.cuda.Event()
        event.record()
        self._pending = (count, event)
        if arrived is None:
            return None
        arrived[1].synchronize()  # recorded a whole stride ago
        return int(arrived[0])
