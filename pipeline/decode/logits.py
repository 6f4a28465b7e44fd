"""Logits to the log-probabilities of the tokens that are allowed at a step."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.decode.hypothesis import Limits


def allowed_log_probabilities(logits: Tensor, limits: Limits, step: int) -> Tensor:
    """float32 [rows, V]; minus infinity where a token is not allowed as number `step` (from 0).

    The softmax is over all tokens, as in training: what is banned keeps its share.
    """
    log_probabilities = torch.log_softmax(logits.float(), -1)
    if limits.banned:
        log_probabilities[:, list(limits.banned)] = -torch.inf
    if step < limits.min_len:
        log_probabilities[:, limits.eos] = -torch.inf
    return log_probabilities
