"""Beam search for a batch of pictures, with length normalisation.

The rules are those of `transformers`' generate (early_stopping=False), so that results can be
compared: of the 2W best continuations the first W that do not end go on; those among the first W
that end are finished, ranked by sum of log-probabilities / tokens ** length_penalty; a picture is
done when its best running beam cannot overtake its worst finished one. At `max_len` whatever
runs is finished too, so there is always a caption.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.decode.capture import captured
from pipeline.decode.departures import Departures, stride
from pipeline.decode.hypothesis import Hypothesis, Limits
from pipeline.decode.rules import Rules
from pipeline.models.captioner import Captioner, Memory, State


@dataclass
class _Beams:
    """Running and finished hypotheses; B pictures, W beams, T the longest caption."""

    pictures: Tensor
    """Which of the batch's pictures are here [B]."""
    going_B: Tensor
    """Whether a finished hypothesis can still be overtaken; the others change no more."""
    sums_BW: Tensor
    tokens_BWT: Tensor
    """T + 1 of them: the begin token stands first."""
    log_BWT: Tensor
    done_ranks_BW: Tensor
    """Normalised scores of the finished, best first; minus infinity where there is none."""
    done_tokens_BWT: Tensor
    done_log_BWT: Tensor
    done_lengths_BW: Tensor

    @classmethod
    def start(cls, pictures: int, width: int, limits: Limits, device: torch.device) -> _Beams:
        sums = torch.full((pictures, width), -torch.inf, device=device)
        sums[:, 0] = 0.0  # one live beam at first: equal beams would stay equal
        tokens = torch.full((pictures, width, limits.max_len + 1), limits.pad, device=device)
        tokens[:, :, 0] = limits.bos
        log = torch.zeros((pictures, width, limits.max_len), device=device)
        return cls(
            torch.arange(pictures, device=device),
            torch.ones(pictures, dtype=torch.bool, device=device),
            sums,
            tokens,
            log,
            torch.full_like(sums, -torch.inf),
            tokens.clone(),
            log.clone(),
            torch.zeros((pictures, width), dtype=torch.long, device=device),
        )

    def select(self, kept: Tensor) -> _Beams:
        return _Beams(**{name: value.index_select(0, kept) for name, value in vars(self).items()})

    def copy_finished(self, to: _Beams) -> None:
        """The finished hypotheses to their pictures' places in the whole batch."""
        for name in ("done_ranks_BW", "done_tokens_BWT", "done_log_BWT", "done_lengths_BW"):
            getattr(to, name).index_copy_(0, self.pictures, getattr(self, name))


@torch.inference_mode()
def beam_search(
    model: Captioner, memory: Memory, limits: Limits, *, beam: int, candidates: int = 1
) -> list[list[Hypothesis]]:
    """The best `candidates` (at most `beam`) hypotheses of each picture, best first."""
    count, device = len(memory.tokens_BSD), memory.tokens_BSD.device
    rules, departures, few = Rules(limits, device), Departures(count), stride(device)
    state = model.init_state(memory, beam, limits.max_len)
    beams = _Beams.start(count, beam, limits, device)
    results = _Beams.start(count, beam, limits, device)
    for first in range(0, limits.max_len, few):
        steps = range(first, min(first + few, limits.max_len))

        def run(given: tuple[_Beams, State], steps: range = steps) -> tuple[_Beams, State]:
            beams, state = replace(given[0]), given[1]
            for step in steps:
                logits, state = model.step(beams.tokens_BWT[:, :, step].flatten(), state)
                state = state.select(_advance(beams, logits, rules, step))
            return beams, state

        beams, state = captured(model, ("beam", limits, first), run, (beams, state), device)
        kept = departures.staying(beams.going_B)
        if kept is not None:
            beams.copy_finished(results)
            if len(kept) == 0:
                break
            rows = kept[:, None] * beam + torch.arange(beam, device=device)
            beams, state = beams.select(kept), state.select(rows.flatten())
    beams.copy_finished(results)
    return _read(results, candidates)


def _advance(beams: _Beams, logits: Tensor, rules: Rules, step: int) -> Tensor:
    """One more token: the rows [B * W] that the new beams continue."""
    limits, (pictures, width) = rules.limits, beams.sums_BW.shape
    allowed = logits.float().log_softmax(-1)
    own = allowed.clone() if rules.penalised else allowed
    rules.apply(allowed, beams.tokens_BWT[:, :, : step + 1].flatten(0, 1))
    # Of all W * V continuations the best 2W are among each beam's best 2W.
    gains, ids = allowed.topk(min(2 * width, allowed.shape[1]), dim=1)
    log = own.gather(1, ids) if rules.penalised else gains
    sums = (beams.sums_BW[:, :, None] + gains.view(pictures, width, -1)).flatten(1)
    best, flat = sums.topk(min(2 * width, sums.shape[1]), dim=1)
    parent = flat // gains.shape[1]
    token = ids.view(pictures, -1).gather(1, flat)
    log = log.reshape(pictures, -1).gather(1, flat)
    # The first W that go on; a stable sort of "ends" keeps the order of the scores.
    ends = (token == limits.eos) | (step == limits.max_len - 1)
    order = ends.byte().sort(dim=1, stable=True).indices[:, :width]
    _finish(beams, best[:, :width], parent, token, log, ends[:, :width], rules.limits, step)
    parent, token, log = parent.gather(1, order), token.gather(1, order), log.gather(1, order)
    beams.sums_BW = best.gather(1, order).masked_fill(ends.gather(1, order), -torch.inf)
    beams.tokens_BWT = _extend(beams.tokens_BWT, parent, token, step + 1)
    beams.log_BWT = _extend(beams.log_BWT, parent, log, step)
    beams.going_B = beams.going_B & _undone(beams, limits, step)
    first = torch.arange(0, pictures * width, width, device=parent.device)
    return (first[:, None] + parent).flatten()


def _extend(history_BWT: Tensor, parent: Tensor, new: Tensor, place: int) -> Tensor:
    """The parents' histories with something new at `place`."""
    rows = parent[:, :, None].expand(-1, -1, history_BWT.shape[2])
    longer = history_BWT.gather(1, rows)
    longer[:, :, place] = new
    return longer


def _finish(
    beams: _Beams,
    sums: Tensor,
    parent: Tensor,
    token: Tensor,
    log: Tensor,
    ends: Tensor,
    limits: Limits,
    step: int,
) -> None:
    """Merge the continuations that ended into the best W finished ones."""
    if ends.device.type == "cpu" and not ends.any():
        return
    width = sums.shape[1]
    tokens = _extend(beams.tokens_BWT, parent[:, :width], token[:, :width], step + 1)
    logs = _extend(beams.log_BWT, parent[:, :width], log[:, :width], step)
    ended = sums.masked_fill(~(ends & beams.going_B[:, None]), -torch.inf)
    ranks = torch.cat([beams.done_ranks_BW, ended / (step + 1) ** limits.length_penalty], 1)
    lengths = torch.full_like(beams.done_lengths_BW, step + 1)
    beams.done_ranks_BW, order = ranks.topk(width, dim=1)
    beams.done_lengths_BW = torch.cat([beams.done_lengths_BW, lengths], 1).gather(1, order)
    rows = order[:, :, None]
    tokens = torch.cat([beams.done_tokens_BWT, tokens], 1)
    beams.done_tokens_BWT = tokens.gather(1, rows.expand(-1, -1, tokens.shape[2]))
    logs = torch.cat([beams.done_log_BWT, logs], 1)
    beams.done_log_BWT = logs.gather(1, rows.expand(-1, -1, logs.shape[2]))


def _undone(beams: _Beams, limits: Limits, step: int) -> Tensor:
    """Whether a picture's best running beam could still overtake its worst finished one [B]."""
    if step == limits.max_len - 1:
        return torch.zeros_like(beams.going_B)
    reachable = beams.sums_BW[:, 0] / (step + 1) ** limits.length_penalty
    worst: Tensor = beams.done_ranks_BW[:, -1]
    return torch.gt(reachable, worst)


def _read(results: _Beams, candidates: int) -> list[list[Hypothesis]]:
    ranks, lengths = results.done_ranks_BW.tolist(), results.done_lengths_BW.tolist()
    tokens = results.done_tokens_BWT[:, :, 1:].tolist()
    logs = results.done_log_BWT.tolist()
    return [
        [
            Hypothesis(tuple(tokens[b][w][: lengths[b][w]]), tuple(logs[b][w][: lengths[b][w]]))
            for w in range(candidates)
            if ranks[b][w] > -torch.inf
        ]
        for b in range(len(ranks))
    ]
