"""Search for captions; knows the interface of `models.captioner` and token ids, no text."""

from __future__ import annotations

from pipeline.decode.beam import beam_search
from pipeline.decode.greedy import greedy_search
from pipeline.decode.hypothesis import Caption, Hypothesis, Limits
from pipeline.models.captioner import Captioner, Memory

__all__ = ["Caption", "Hypothesis", "Limits", "beam_search", "greedy_search", "search"]


def search(
    model: Captioner, memory: Memory, limits: Limits, *, beam: int, candidates: int = 1
) -> list[list[Hypothesis]]:
    """The best `candidates` hypotheses of each picture, best first; beam 1 is greedy search."""
    width = max(beam, candidates)
    if width == 1:
        return greedy_search(model, memory, limits)
    return beam_search(model, memory, limits, beam=width, candidates=candidates)
