"""How many places of a batch's captions a decoder is asked for: one of few numbers.

Every batch holds another number of words, and so every tensor with a row a word would have another
size in each step. On a CPU that costs twice: oneDNN compiles a kernel for each shape, and freed
memory fits no later tensor exactly, so that glibc's heap grows and each allocation searches a longer
list (`tests/benchmarks/train_growth.py`).
"""

from __future__ import annotations

from torch import Tensor

MULTIPLE = 64


def asked_places(real_BCT: Tensor) -> Tensor:
    """Where captions have a token, and as much padding as makes their number a multiple of 64.

    Padding that stands early in its caption is taken first, since a decoder that goes step after
    step is there for other captions anyway; less of it where there is no more.
    """
    missing = -int(real_BCT.sum()) % MULTIPLE
    steps, pictures, captions = (~real_BCT).permute(2, 0, 1).nonzero()[:missing].unbind(1)
    asked = real_BCT.clone()
    asked[pictures, captions, steps] = True
    return asked
