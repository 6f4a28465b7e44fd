"""Which tokens may come next, and at what price: the rules of `transformers`' generate, in its order.

Repetition penalty, n-gram blocking, banned tokens and runs, minimum length. They act on
log-probabilities over all tokens, as trained (what is banned keeps its share), or on logits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.decode.hypothesis import Limits


class Rules:
    """A search's rules, made once, with what they need on the search's device."""

    def __init__(self, limits: Limits, device: torch.device) -> None:
        self.limits = limits
        self.banned = torch.tensor(sorted(set(limits.banned)), dtype=torch.long, device=device)
        self.runs = [(torch.tensor(run[:-1], device=device), run[-1]) for run in limits.banned_runs]
        self.penalised = limits.repetition_penalty != 1.0
        """Whether the rules change scores, beside forbidding tokens."""

    def apply(self, scores_RV: Tensor, past_RT: Tensor) -> Tensor:
        """Change scores in place: minus infinity where a token may not come after `past`.

        Args:
            scores_RV: float32 log-probabilities or logits.
            past_RT: the tokens so far, the begin token first.
        """
        limits = self.limits
        ending = scores_RV[:, limits.eos].clone()
        if self.penalised:
            _penalise(scores_RV, past_RT, limits.repetition_penalty)
        if 0 < limits.ngram_block <= past_RT.shape[1]:
            _block_ngrams(scores_RV, past_RT, limits.ngram_block)
        if len(self.banned):
            scores_RV.index_fill_(1, self.banned, -torch.inf)
        for prefix, last in self.runs:
            if past_RT.shape[1] >= len(prefix):
                follows = (past_RT[:, -len(prefix) :] == prefix).all(1)
                scores_RV[:, last].masked_fill_(follows, -torch.inf)
        if past_RT.shape[1] <= limits.min_len:
            scores_RV[:, limits.eos] = -torch.inf
        # The end token may have to wait; with it and these gone, is a token sure to be left?
        forbidden = len(self.banned) + len(self.runs) + 1
        scarce = limits.ngram_block > 0 or forbidden >= scores_RV.shape[1]
        if scarce and limits.eos not in limits.banned:
            # Where nothing at all is allowed, the caption ends: there is always one.
            stuck = scores_RV.amax(1) == -torch.inf
            scores_RV[:, limits.eos] = torch.where(stuck, ending, scores_RV[:, limits.eos])
        return scores_RV


def _penalise(scores_RV: Tensor, past_RT: Tensor, penalty: float) -> None:
    seen = scores_RV.gather(1, past_RT)
    scores_RV.scatter_(1, past_RT, torch.where(seen < 0, seen * penalty, seen / penalty))


def _block_ngrams(scores_RV: Tensor, past_RT: Tensor, size: int) -> None:
    ngrams = past_RT.unfold(1, size, 1)
    begun = past_RT[:, past_RT.shape[1] - size + 1 :]
    again = (ngrams[:, :, :-1] == begun[:, None]).all(2)
    # Added, not written: a token may end several n-grams of which one must not be repeated.
    price = torch.zeros_like(again, dtype=scores_RV.dtype).masked_fill_(again, -torch.inf)
    scores_RV.scatter_add_(1, ngrams[:, :, -1], price)
