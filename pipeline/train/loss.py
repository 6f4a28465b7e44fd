"""Teacher forcing's loss: cross-entropy of the next word, padding ignored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.models.captioner import Captioner, Memory
from pipeline.train.asked import asked_places

IGNORED = -100


@dataclass(frozen=True)
class Loss:
    """The losses of a batch, or of a piece of one."""

    total: Tensor
    """What is minimised; the pieces of a batch add up to the batch's."""
    entropy_sum: Tensor
    """Over the piece's words, nats, without smoothing's share taken out."""
    words: int
    """Of the piece."""

    @property
    def cross_entropy(self) -> float:
        """Mean over the words, nats."""
        return float(self.entropy_sum) / max(self.words, 1)


def caption_loss(
    model: Captioner,
    memory: Memory,
    captions_BCT: Tensor,
    real_BCT: Tensor,
    *,
    label_smoothing: float = 0.0,
    attention_penalty: float = 0.0,
    words: int | None = None,
    captions: int | None = None,
) -> Loss:
    """Cross-entropy + the doubly stochastic term lambda * mean_s (1 - sum_t a_ts)^2.

    `real` says where a caption has a token. Xu et al. 2015, eq. 14: over a caption each place of
    the picture is looked at about equally.

    Args:
        model: the captioner.
        memory: of B pictures.
        captions_BCT: padded ids.
        real_BCT: where they are not padding.
        label_smoothing: share of the target's probability that is spread over all words.
        attention_penalty: lambda.
        words: of the whole batch, where this is a piece of one; the sum is divided by it.
        captions: likewise, for the penalty.
    """
    prefixes, targets, real = captions_BCT[..., :-1], captions_BCT[..., 1:], real_BCT[..., 1:]
    asked, found = asked_places(real)
    teaching = model.teach(memory, prefixes, asked, attention=attention_penalty > 0)
    entropy = F.cross_entropy(
        teaching.logits_MV.float(),
        targets.masked_fill(~real, IGNORED)[asked],
        label_smoothing=label_smoothing,
        reduction="sum",
        ignore_index=IGNORED,
    )
    total = entropy / (words or found)
    if teaching.attention_MS is not None:
        lengths = real.sum(-1).flatten()
        number = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
        attention_MS = teaching.attention_MS[real[asked]].float()
        looked = attention_MS.new_zeros(len(lengths), attention_MS.shape[1])
        looked = looked.index_add(0, number, attention_MS)[lengths > 0]
        apart = torch.square(1 - looked).mean(1).sum() / (captions or len(looked))
        total = total + attention_penalty * apart
    return Loss(total, entropy.detach(), found)
