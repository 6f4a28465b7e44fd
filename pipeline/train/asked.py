"""How many places of a batch's captions a decoder is asked for: one of few numbers.

Every batch holds another number of words, and so every tensor with a row a word would have another
size in each step. On a CPU that costs twice: oneDNN compiles a kernel for each shape, and freed
memory fits no later tensor exactly, so that glibc's heap grows and each allocation searches a longer
list (`tests/benchmarks/train_growth.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

MULTIPLE = 64


# Counting is no part of a graph, and torch.compile would warn of it.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def asked_places(real_BCT: Tensor) -> tuple[Tensor, int]:
    """Where captions have a token and as much padding as makes a multiple of 64; and the tokens.

    Padding that stands early in its caption is taken first, since a decoder that goes step after
    step is there for other captions anyway; less of it where there is no more.
    """
    tokens = int(real_BCT.sum())
    steps, pictures, captions = (~real_BCT).permute(2, 0, 1).nonzero()[: -tokens % MULTIPLE].T
    asked_BCT = real_BCT.clone()
    asked_BCT[pictures, captions, steps] = True
    return asked_BCT, tokens
