"""Search for captions; knows the interface of `models.captioner` and token ids, no text."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.decode.beam import beam_search
from pipeline.decode.hypothesis import Caption, Hypothesis, Limits, Sampling
from pipeline.decode.walk import greedy_search, sample_search
from pipeline.models.captioner import Captioner, Memory

__all__ = [
    "Caption",
    "Hypothesis",
    "Limits",
    "Sampling",
    "beam_search",
    "greedy_search",
    "sample_search",
    "search",
]


def search(
    model: Captioner,
    memory: Memory,
    limits: Limits,
    *,
    beam: int,
    candidates: int = 1,
    sampling: Sampling | None = None,
    keys: Sequence[int | str] | None = None,
) -> list[list[Hypothesis]]:
    """The best `candidates` hypotheses of each picture, best first; beam 1 is greedy search.

    With `sampling`, as many random ones instead, in the order drawn (`keys`: see `sample_search`).
    """
    if len(memory.tokens_BSD) == 0:
        return []
    if sampling is not None:
        return sample_search(model, memory, limits, sampling, candidates=candidates, keys=keys)
    width = max(beam, candidates)
    if width == 1:
        return greedy_search(model, memory, limits)
    return beam_search(model, memory, limits, beam=width, candidates=candidates)
