"""The ranks of a training: what one process does by itself, several do through torch.distributed.

Knows no model, no data and no file. Gradients travel with `parallel`; all else that ranks tell each
other is small and goes over gloo, on the CPU, also where the gradients go over NCCL.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.errors import ConfigError
from pipeline.predict import choose_device

T = TypeVar("T")

# Rank 0 validates, commits and fills the feature cache while the others wait for its word. A rank
# that dies ends the wait at once: its connections close, and torchrun ends the others.
PATIENCE = timedelta(days=1)


class Ranks:
    """One process by itself, rank 0 of 1. The same methods of a `Group` work among several."""

    rank = 0
    world = 1

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes, logs and speaks."""
        return self.rank == 0

    @property
    def threads(self) -> int | None:
        """CPU threads for torch, where it should not choose by itself."""
        return None

    def device(self, name: str) -> torch.device:
        """The device that `name` means for this rank.

        Raises:
            ConfigError: there is no such device.
        """
        return choose_device(name)

    def total(self, values: Sequence[float]) -> list[float]:
        """Each of the numbers, summed over the ranks."""
        return list(values)

    def gather(self, value: T) -> list[T]:
        """Every rank's value (JSON), in their order."""
        return [value]

    def gather_tensors(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor, all of one shape and on the CPU."""
        return [tensor]

    def told(self, value: T) -> T:
        """Rank 0's value (JSON)."""
        return value

    def wait(self) -> None:
        """Return when every rank is here."""

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """One rank after the other, rank 0 first."""
        for _ in range(self.rank):
            self.wait()
        yield
        for _ in range(self.world - self.rank):
            self.wait()

    def parallel(self, module: nn.Module) -> nn.Module:
        """`module`, whose backward sums the gradients of all ranks unless in `no_sync`."""
        return module


class Group(Ranks):
    """The processes that torchrun started, on one machine or several."""

    def __init__(self, device: str) -> None:
        """Meet the other ranks.

        Raises:
            ConfigError: this machine has fewer devices than ranks.
        """
        self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self.local, self.beside = (int(os.environ[n]) for n in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
        self._device = self._own(device)
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)
            # NCCL keeps its own, short patience: a step's gradients are never long apart.
            dist.init_process_group("nccl")
            self._words: Any = dist.new_group(backend="gloo", timeout=PATIENCE)
        else:
            dist.init_process_group("gloo", timeout=PATIENCE)
            self._words = dist.group.WORLD

    def _own(self, name: str) -> torch.device:
        chosen = choose_device(name)
        if chosen.type == "mps" or ":" in name:
            raise ConfigError(f"device = {name!r} is one device; several ranks want cuda or cpu")
        if chosen.type == "cpu":
            return chosen
        if self.local >= torch.cuda.device_count():
            raise ConfigError(
                f"{self.beside} ranks on this machine, which has {torch.cuda.device_count()} CUDA "
                "devices; start one a device, or set device = cpu"
            )
        return torch.device("cuda", self.local)

    @property
    def threads(self) -> int | None:
        """An equal share of the cores."""
        return max(1, available_cores() // self.beside)

    def device(self, name: str) -> torch.device:  # noqa: D102
        return self._device

    def total(self, values: Sequence[float]) -> list[float]:  # noqa: D102
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed, group=self._words)
        return [float(value) for value in summed]

    def gather_tensors(self, tensor: Tensor) -> list[Tensor]:  # noqa: D102
        every = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(every, tensor, group=self._words)
        return every

    def gather(self, value: T) -> list[T]:  # noqa: D102
        # JSON, not torch's object collectives: those unpickle what comes over the network.
        data = json.dumps(value).encode()
        sizes = [int(size) for size in self.gather_tensors(torch.tensor(len(data)))]
        padded = torch.zeros(max(sizes), dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        texts = self.gather_tensors(padded)
        return [
            json.loads(text[:size].numpy().tobytes())
            for text, size in zip(texts, sizes, strict=True)
        ]

    def told(self, value: T) -> T:  # noqa: D102
        return self.gather(value if self.first else None)[0]  # type: ignore[return-value]

    def wait(self) -> None:  # noqa: D102
        dist.barrier(group=self._words)

    def parallel(self, module: nn.Module) -> nn.Module:
        """DistributedDataParallel, whose buckets travel while the backward pass goes on.

        Sums instead of its averages: the losses are already divided by the global batch. A
        parameter that no rank used keeps no gradient, as without ranks. Buffers do not travel:
        what is validated and kept are those of rank 0, which never lacks pictures.
        """
        named = inspect.signature(DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in named else "broadcast_buffers"
        options: dict[str, Any] = {buffers: False}  # the second is the older name
        made = DistributedDataParallel(
            module, find_unused_parameters=True, gradient_as_bucket_view=True, **options
        )
        # A lambda: torch refuses annotations that are strings.
        made.register_comm_hook(None, lambda _state, bucket: _sum(bucket))
        return made

    def leave(self) -> None:
        """Part from the others when all are done."""
        self.wait()
        dist.destroy_process_group()


def _sum(bucket: Any) -> torch.futures.Future[Tensor]:
    sent = dist.all_reduce(bucket.buffer(), async_op=True)
    summed: torch.futures.Future[Tensor] = sent.get_future().then(lambda done: done.value()[0])
    return summed


def available_cores() -> int:
    """CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def lost_another(error: BaseException) -> bool:
    """Whether it is torch.distributed's way to say that another rank is gone."""
    text = str(error)
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError)
        and any(name in text for name in ("gloo", "NCCL", "onnection closed by peer"))
    )
