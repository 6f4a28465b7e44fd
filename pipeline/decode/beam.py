"""Beam search for a batch of pictures, with length normalisation.

The rules are those of `transformers`' generate (early_stopping=False), so that results can be
compared: of the 2W best continuations the first W that do not end go on; those among the first W
that end are finished, ranked by sum of log-probabilities / tokens ** length_penalty; a picture is
done when its best running beam cannot overtake its worst finished one. At `max_len` whatever
runs is finished too, so there is always a caption.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.decode.hypothesis import Hypothesis, Limits
from pipeline.decode.logits import allowed_log_probabilities
from pipeline.models.captioner import Captioner, Memory


@dataclass
class _Beams:
    """Running and finished hypotheses; B pictures, W beams, T the longest caption."""

    sums_BW: Tensor
    tokens_BWT: Tensor
    done_ranks_BW: Tensor
    """Normalised scores of the finished, best first; minus infinity where there is none."""
    done_sums_BW: Tensor
    done_tokens_BWT: Tensor
    done_lengths_BW: Tensor

    @classmethod
    def start(cls, pictures: int, width: int, limits: Limits, device: torch.device) -> _Beams:
        sums = torch.full((pictures, width), -torch.inf, device=device)
        sums[:, 0] = 0.0  # one live beam at first: equal beams would stay equal
        tokens = torch.full((pictures, width, limits.max_len), limits.pad, device=device)
        none = torch.full_like(sums, -torch.inf)
        lengths = torch.zeros((pictures, width), dtype=torch.long, device=device)
        return cls(sums, tokens, none, none.clone(), tokens.clone(), lengths)

    def select(self, pictures: Tensor) -> _Beams:
        return _Beams(**{name: value[pictures] for name, value in vars(self).items()})


@torch.inference_mode()
def beam_search(
    model: Captioner, memory: Memory, limits: Limits, *, beam: int, candidates: int = 1
) -> list[list[Hypothesis]]:
    """The best `candidates` (at most `beam`) hypotheses of each picture, best first."""
    count, device = len(memory.tokens_BSD), memory.tokens_BSD.device
    state = model.init_state(memory, beam)
    beams = _Beams.start(count, beam, limits, device)
    alive = list(range(count))
    results: list[list[Hypothesis]] = [[] for _ in range(count)]
    tokens = torch.full((count * beam,), limits.bos, device=device)
    for step in range(limits.max_len):
        logits, state = model.step(tokens, state)
        allowed = allowed_log_probabilities(logits, limits, step).unflatten(0, (len(alive), beam))
        rows, tokens = _advance(beams, allowed, limits, step)
        going = _undone(beams, limits, step)
        leaving = (~going).nonzero().squeeze(-1).tolist()
        for place in leaving:
            results[alive[place]] = _read(beams, place, candidates)
        if len(leaving) == len(alive):
            break
        if leaving:
            kept = going.nonzero().squeeze(-1)
            alive = [alive[place] for place in kept.tolist()]
            beams, rows, tokens = beams.select(kept), rows[kept], tokens[kept]
        state, tokens = state.select(rows.flatten()), tokens.flatten()
    return results


def _advance(
    beams: _Beams, allowed_BWV: Tensor, limits: Limits, step: int
) -> tuple[Tensor, Tensor]:
    """One more token: rows [B, W] that each new beam continues, and its token [B, W]."""
    pictures, width, vocabulary = allowed_BWV.shape
    sums = (beams.sums_BW[:, :, None] + allowed_BWV).flatten(1)
    top = min(2 * width, sums.shape[1])
    best, flat = sums.topk(top, dim=1)
    parent, token = flat // vocabulary, flat % vocabulary
    history = beams.tokens_BWT.gather(1, parent[:, :, None].expand(-1, -1, limits.max_len)).clone()
    history[:, :, step] = token
    ends = (token == limits.eos) | (step == limits.max_len - 1)
    _finish(beams, best[:, :width], history[:, :width], ends[:, :width], limits, step + 1)
    # The first W that go on; a stable sort of "ends" keeps the order of the scores.
    order = ends.long().sort(dim=1, stable=True).indices[:, :width]
    beams.sums_BW = best.gather(1, order).masked_fill(ends.gather(1, order), -torch.inf)
    beams.tokens_BWT = history.gather(1, order[:, :, None].expand(-1, -1, limits.max_len))
    first = torch.arange(pictures, device=parent.device)[:, None] * width
    return first + parent.gather(1, order), token.gather(1, order)


def _finish(
    beams: _Beams, sums: Tensor, history: Tensor, ends: Tensor, limits: Limits, length: int
) -> None:
    """Merge the continuations that ended into the best W finished ones."""
    width = sums.shape[1]
    ended = sums.masked_fill(~ends, -torch.inf)
    ranks = torch.cat([beams.done_ranks_BW, ended / length**limits.length_penalty], 1)
    lengths = torch.cat([beams.done_lengths_BW, torch.full_like(beams.done_lengths_BW, length)], 1)
    beams.done_ranks_BW, order = ranks.topk(width, dim=1)
    beams.done_sums_BW = torch.cat([beams.done_sums_BW, ended], 1).gather(1, order)
    beams.done_lengths_BW = lengths.gather(1, order)
    tokens = torch.cat([beams.done_tokens_BWT, history], 1)
    beams.done_tokens_BWT = tokens.gather(1, order[:, :, None].expand(-1, -1, limits.max_len))


def _undone(beams: _Beams, limits: Limits, step: int) -> Tensor:
    """Whether a picture's best running beam could still overtake its worst finished one [B]."""
    reachable = beams.sums_BW[:, 0] / (step + 1) ** limits.length_penalty
    if step == limits.max_len - 1:
        return torch.zeros_like(reachable, dtype=torch.bool)
    worst: Tensor = beams.done_ranks_BW[:, -1]
    return torch.gt(reachable, worst)


def _read(beams: _Beams, place: int, candidates: int) -> list[Hypothesis]:
    found = []
    for rank in range(candidates):
        total = float(beams.done_sums_BW[place, rank])
        if total == -torch.inf:
            break
        length = int(beams.done_lengths_BW[place, rank])
        tokens = beams.done_tokens_BWT[place, rank, :length].tolist()
        found.append(Hypothesis(tuple(tokens), total))
    return found
