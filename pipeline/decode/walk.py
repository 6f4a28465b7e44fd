"""Captions a token at a time: greedy search and sampling. N rows a picture, T the longest caption.

The rules are those of `transformers`' generate: they act on logits, then temperature, top-k and
nucleus. A picture's random numbers are its own, so that its samples do not depend on others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.decode.capture import captured
from pipeline.decode.departures import Departures, stride
from pipeline.decode.hypothesis import Hypothesis, Limits, Sampling
from pipeline.decode.rules import Rules
from pipeline.models.captioner import Captioner, Memory, State


@dataclass
class _Rows:
    """What has been said; the begin token stands first."""

    pictures: Tensor
    """Which of the batch's pictures are here [B]."""
    tokens_BNT: Tensor
    log_BNT: Tensor
    ended_BN: Tensor
    uniform_BNT: Tensor
    """A random number for each token to come."""

    @classmethod
    def start(cls, uniform_BNT: Tensor, limits: Limits) -> _Rows:
        (pictures, width), device = uniform_BNT.shape[:2], uniform_BNT.device
        tokens = torch.full((pictures, width, limits.max_len + 1), limits.pad, device=device)
        tokens[:, :, 0] = limits.bos
        log = torch.zeros((pictures, width, limits.max_len), device=device)
        ended = torch.zeros((pictures, width), dtype=torch.bool, device=device)
        return cls(torch.arange(pictures, device=device), tokens, log, ended, uniform_BNT)

    def select(self, kept: Tensor) -> _Rows:
        return _Rows(**{name: value.index_select(0, kept) for name, value in vars(self).items()})

    def copy_said(self, to: _Rows) -> None:
        """What was said to the pictures' places in the whole batch."""
        for name in ("tokens_BNT", "log_BNT"):
            getattr(to, name).index_copy_(0, self.pictures, getattr(self, name))


def greedy_search(model: Captioner, memory: Memory, limits: Limits) -> list[list[Hypothesis]]:
    """One hypothesis a picture, in a list of its own: the likeliest token at every step."""
    none = memory.tokens_BSD.new_zeros(len(memory.tokens_BSD), 1, limits.max_len)
    return _walk(model, memory, limits, none, None)


def sample_search(
    model: Captioner,
    memory: Memory,
    limits: Limits,
    sampling: Sampling,
    *,
    candidates: int = 1,
    keys: Sequence[int | str] | None = None,
) -> list[list[Hypothesis]]:
    """`candidates` random captions of each picture, in the order drawn.

    Args:
        model: the captioner.
        memory: of B pictures.
        limits: what a caption may be.
        sampling: how tokens are drawn.
        candidates: captions a picture; the first ones are the same however many.
        keys: a name of each picture: the same (seed, key) draws the same numbers, whoever its
            neighbours are; default: its place in the batch.
    """
    count, device = len(memory.tokens_BSD), memory.tokens_BSD.device
    names = range(count) if keys is None else keys
    assert len(names) == count, f"{len(names)} keys for {count} pictures"
    uniform = [_uniform(sampling.seed, key, candidates, limits.max_len) for key in names]
    return _walk(model, memory, limits, torch.stack(uniform).to(device), sampling)


def _uniform(seed: int, key: int | str, rows: int, steps: int) -> Tensor:
    """A picture's random numbers on [0, 1), on every device the same."""
    digest = hashlib.sha256(f"{seed}/{key}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
    return torch.rand(rows, steps, generator=generator, dtype=torch.float64)


def _draw(scores_BNV: Tensor, uniform_BN: Tensor, sampling: Sampling) -> Tensor:
    """One token a row, by inverting the distribution's cumulative sum."""
    scores = scores_BNV / sampling.temperature
    ids = None
    if sampling.top_k > 0:
        scores, ids = scores.topk(min(sampling.top_k, scores.shape[-1]), dim=-1)
    elif sampling.top_p < 1:
        scores, ids = scores.sort(dim=-1, descending=True)
    chances = scores.double().softmax(-1)
    reached = chances.cumsum(-1)
    if sampling.top_p < 1:
        # A token stays if what is likelier has not reached top_p; the first always does.
        chances = chances.masked_fill(reached - chances >= sampling.top_p, 0.0)
        reached = chances.cumsum(-1)
    aim = uniform_BN[..., None] * reached[..., -1:]
    place = torch.searchsorted(reached, aim, right=True)
    # Rounding may carry the aim past the last token that has a chance.
    last = (chances > 0).long().cumsum(-1).argmax(-1, keepdim=True)
    place = torch.minimum(place, last)
    return (place if ids is None else ids.gather(-1, place)).squeeze(-1)


@torch.inference_mode()
def _walk(
    model: Captioner,
    memory: Memory,
    limits: Limits,
    uniform_BNT: Tensor,
    sampling: Sampling | None,
) -> list[list[Hypothesis]]:
    """The likeliest tokens, or random ones."""
    (count, width), device = uniform_BNT.shape[:2], memory.tokens_BSD.device
    rules, departures, few = Rules(limits, device), Departures(count), stride(device)
    # Every seed is drawn by the same work: its numbers are given.
    drawing = sampling and replace(sampling, seed=0)
    state = model.init_state(memory, width, limits.max_len)
    rows = _Rows.start(uniform_BNT, limits)
    results = _Rows.start(uniform_BNT, limits)
    for first in range(0, limits.max_len, few):
        steps = range(first, min(first + few, limits.max_len))

        def run(given: tuple[_Rows, State], steps: range = steps) -> tuple[_Rows, State]:
            rows, state = replace(given[0]), given[1]
            for step in steps:
                logits, state = model.step(rows.tokens_BNT[:, :, step].flatten(), state)
                _advance(rows, logits, rules, sampling, step)
            return rows, state

        key = ("walk", limits, drawing, first)
        rows, state = captured(model, key, run, (rows, state), device)
        kept = departures.staying(~rows.ended_BN.all(1))
        if kept is not None:
            rows.copy_said(results)
            if len(kept) == 0:
                break
            every = kept[:, None] * width + torch.arange(width, device=device)
            rows, state = rows.select(kept), state.select(every.flatten())
    rows.copy_said(results)
    tokens, logs = results.tokens_BNT[:, :, 1:].tolist(), results.log_BNT.tolist()
    return [
        [_hypothesis(*said, limits) for said in zip(*picture, strict=True)]
        for picture in zip(tokens, logs, strict=True)
    ]


def _advance(
    rows: _Rows, logits: Tensor, rules: Rules, sampling: Sampling | None, step: int
) -> None:
    """One more token a row; rows that ended are padded."""
    logits, pad = logits.float(), rules.limits.pad
    log = logits.log_softmax(-1)
    scores = rules.apply(logits, rows.tokens_BNT[:, :, : step + 1].flatten(0, 1))
    scores = scores.unflatten(0, rows.ended_BN.shape)
    chosen = (
        scores.argmax(-1)
        if sampling is None
        else _draw(scores, rows.uniform_BNT[:, :, step], sampling)
    )
    chosen_log = log.gather(1, chosen.view(-1, 1)).view_as(chosen)
    rows.tokens_BNT = rows.tokens_BNT.clone()
    rows.log_BNT = rows.log_BNT.clone()
    rows.tokens_BNT[:, :, step + 1] = chosen.masked_fill(rows.ended_BN, pad)
    rows.log_BNT[:, :, step] = chosen_log.masked_fill(rows.ended_BN, 0.0)
    rows.ended_BN = rows.ended_BN | (chosen == rules.limits.eos)


def _hypothesis(tokens: list[int], log: list[float], limits: Limits) -> Hypothesis:
    length = tokens.index(limits.eos) + 1 if limits.eos in tokens else len(tokens)
    return Hypothesis(tuple(tokens[:length]), tuple(log[:length]))
