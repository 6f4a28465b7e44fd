"""A process that keeps the memory it freed, for its next batch.

glibc gives large blocks back to the system at once, and the system hands them out again page by
page, each filled with zeros first: in a convolutional network on a CPU that costs about as much as
the convolutions (`tests/benchmarks/encoder_layout.py`).
"""

from __future__ import annotations

import ctypes
import os

# mallopt(3), <malloc.h>.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Let this process keep its largest size until it ends; nothing without glibc or by a user's choice.

    For processes of our own that run a model: a library does not set this for its host.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or _is_chosen():
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)


def _is_chosen() -> bool:
    """Whether the environment says how glibc is to do it (mallopt(3), 'Tunables')."""
    names = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_")
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name in os.environ for name in names)
