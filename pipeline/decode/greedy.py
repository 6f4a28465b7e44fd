"""Greedy search: the likeliest token at every step."""

from __future__ import annotations

import torch

from pipeline.decode.hypothesis import Hypothesis, Limits
from pipeline.decode.logits import allowed_log_probabilities
from pipeline.models.captioner import Captioner, Memory


@torch.inference_mode()
def greedy_search(model: Captioner, memory: Memory, limits: Limits) -> list[list[Hypothesis]]:
    """One hypothesis a picture, in a list of its own; finished pictures leave the batch."""
    count, device = len(memory.tokens_BSD), memory.tokens_BSD.device
    state = model.init_state(memory, 1)
    alive = torch.arange(count, device=device)
    tokens = torch.full((count,), limits.bos, device=device)
    total = torch.zeros(count, device=device)
    chosen: list[list[int]] = [[] for _ in range(count)]
    for step in range(limits.max_len):
        logits, state = model.step(tokens, state)
        best, tokens = allowed_log_probabilities(logits, limits, step).max(-1)
        total[alive] += best
        for picture, token in zip(alive.tolist(), tokens.tolist(), strict=True):
            chosen[picture].append(token)
        going = (tokens != limits.eos).nonzero().squeeze(-1)
        if len(going) == 0:
            break
        if len(going) < len(tokens):
            state, alive, tokens = state.select(going), alive[going], tokens[going]
    sums = total.tolist()
    return [[Hypothesis(tuple(ids), value)] for ids, value in zip(chosen, sums, strict=True)]
