"""Teacher forcing's loss: cross-entropy of the next word, padding ignored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.models.captioner import Captioner, Memory


@dataclass(frozen=True)
class Loss:
    """One batch's losses."""

    total: Tensor
    """What is minimised."""
    cross_entropy: float
    """Mean over the words, nats, without smoothing's share taken out."""
    words: int


def caption_loss(
    model: Captioner,
    memory: Memory,
    captions_BCT: Tensor,
    real_BCT: Tensor,
    *,
    label_smoothing: float = 0.0,
    attention_penalty: float = 0.0,
) -> Loss:
    """Cross-entropy + the doubly stochastic term lambda * mean_s (1 - sum_t a_ts)^2.

    `real` says where a caption has a token. Xu et al. 2015, eq. 14: over a caption each place of the picture is looked at about equally.
    """
    prefixes, targets, real = captions_BCT[..., :-1], captions_BCT[..., 1:], real_BCT[..., 1:]
    teaching = model.teach(memory, prefixes, real, attention=attention_penalty > 0)
    entropy = F.cross_entropy(teaching.logits_MV, targets[real], label_smoothing=label_smoothing)
    total = entropy
    if teaching.attention_MS is not None:
        lengths = real.sum(-1).flatten()
        captions = torch.repeat_interleave(
            torch.arange(len(lengths), device=lengths.device), lengths
        )
        places = teaching.attention_MS.shape[1]
        looked = teaching.attention_MS.new_zeros(len(lengths), places)
        looked = looked.index_add(0, captions, teaching.attention_MS)[lengths > 0]
        total = entropy + attention_penalty * torch.square(1 - looked).mean()
    return Loss(total, float(entropy.detach()), int(real.sum()))
