"""Self-critical training's step: draw captions, reward them with CIDEr-D, make the better likelier.

REINFORCE (Williams 1992) with Rennie et al. 2017's reward and greedy baseline ('Self-Critical
Sequence Training for Image Captioning', eq. 5 to 9), or Luo 2020's baseline, the mean of the
picture's other captions ('A Better Variant of Self-Critical Sequence Training', eq. 6). Letters as
in `models.captioner`; N captions drawn of a picture, M tokens drawn in all.

Knows no optimiser, no data order and no file: `pipeline.train.run` steps with the loss.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.config_self_critical import SelfCriticalConfig
from pipeline.decode import Hypothesis, Limits, Sampling, greedy_search, sample_search
from pipeline.metrics import DocumentFrequencies, References, cider_reward
from pipeline.metrics.ngrams import Floats
from pipeline.models.captioner import Captioner, Memory
from pipeline.text import Tokenizer
from pipeline.train.collapse import CaptionFigures, CollapseGuard
from pipeline.train.loss import caption_loss


@dataclass(frozen=True)
class Outcome:
    """What one step gives."""

    loss: Tensor
    """What is minimised."""
    tokens: int
    """Drawn tokens that the loss is a mean over."""
    figures: dict[str, float]
    """For the log: reward and baseline (CIDEr-D x100), advantage_std, sample_tokens, ended,
    repeats, and the seconds of drawing, rewards and the forward pass of the gradient."""
    collapse: str | None
    """What the guard has against the captions drawn lately; training must stop."""


def advantages(rewards_BN: Floats, greedy_B: Floats | None = None) -> Floats:
    """How much better each caption is than its baseline [B, N].

    The mean of the N - 1 others: (1 / (N - 1)) * sum_j (r_i - r_j), written as differences so
    that equal rewards give exactly 0. With `greedy`: r_i - greedy.
    """
    if greedy_B is not None:
        return rewards_BN - greedy_B[:, None]
    differences = rewards_BN[:, :, None] - rewards_BN[:, None, :]
    mean: Floats = differences.sum(2) / (rewards_BN.shape[1] - 1)
    return mean


class SelfCritical:
    """Steps of the second phase, for one model and one training split."""

    def __init__(
        self,
        model: Captioner,
        tokenizer: Tokenizer,
        references: References,
        frequencies: DocumentFrequencies,
        settings: SelfCriticalConfig,
        limits: Limits,
        guard: CollapseGuard,
        *,
        seed: int,
    ) -> None:
        """Prepare.

        Args:
            model: what is trained.
            tokenizer: the model's.
            references: of the training split, prepared with the end token: without it captions
                that break off before their last word would be rewarded.
            frequencies: the training split's table, with the end token too.
            settings: of this phase.
            limits: the model's own generation limits; length and banned tokens hold for drawn
                captions, what depends on the words before (blocked n-grams, repetition penalty,
                banned runs) is for the search alone.
            guard: sees every caption drawn.
            seed: of the drawing.
        """
        assert references.end_token, "references without the end token reward broken captions"
        assert frequencies.end_token, "document frequencies without the end token"
        self.model, self.tokenizer, self.guard = model, tokenizer, guard
        self.references, self.frequencies = references, frequencies
        self.settings = settings
        self.limits = replace(limits, ngram_block=0, repetition_penalty=1.0, banned_runs=())
        self.sampling = Sampling(temperature=settings.temperature, seed=seed)

    def step(
        self,
        features: Tensor,
        rows: Sequence[int],
        epoch: int,
        captions: tuple[Tensor, Tensor] | None = None,
    ) -> Outcome:
        """The loss of one batch; `backward` is the caller's.

        The same (seed, epoch, row) and parameters draw the same captions, whatever ran before.
        The model's mode is as before afterwards.

        Args:
            features: of B pictures, as `model.memory` takes them.
            rows: each picture's place in the references.
            epoch: counts so that a picture is drawn anew each time.
            captions: references [B, C, T] and where they are not padding, for the share of
                cross-entropy; needed where its weight is not 0.
        """
        settings, mode = self.settings, self.model.training
        started = time.perf_counter()
        # Without dropout the tokens are drawn from the very distribution whose gradient is taken,
        # and so is what a rollout says to the reward: the model as it will be used.
        self.model.eval()
        memory = self.model.memory(features)
        drawn = self.draw(memory, rows, epoch)
        greedy = greedy_search(self.model, memory, self.limits) if self._greedy else None
        sampled = time.perf_counter()
        rewards_BN = self.reward(rows, drawn)
        greedy_B = None if greedy is None else self.reward(rows, greedy)[:, 0]
        gains_BN = advantages(rewards_BN, greedy_B)
        judged = time.perf_counter()
        if settings.dropout:
            self.model.train()
            memory = self.model.memory(features)
        loss = self.loss(memory, drawn, gains_BN)
        if settings.cross_entropy > 0:
            assert captions is not None, "the share of cross-entropy needs the references' ids"
            entropy = caption_loss(self.model, memory, *captions).total
            loss = loss + settings.cross_entropy * entropy
        self.model.train(mode)
        tokens = [hypothesis.tokens for group in drawn for hypothesis in group]
        figures = CaptionFigures(self.limits.eos)
        figures.add(tokens)
        log = {
            "reward": 100 * float(rewards_BN.mean()),
            "baseline": 100 * float((rewards_BN - gains_BN).mean()),
            "advantage_std": 100 * float(gains_BN.std()),
            "sample_tokens": figures.length,
            "ended": figures.ended_share,
            "repeats": figures.repeats,
            "draw_seconds": sampled - started,
            "reward_seconds": judged - sampled,
            "forward_seconds": time.perf_counter() - judged,
        }
        return Outcome(loss, figures.tokens, log, self.guard.add(tokens))

    @property
    def _greedy(self) -> bool:
        return self.settings.baseline == "greedy"

    def draw(self, memory: Memory, rows: Sequence[int], epoch: int) -> list[list[Hypothesis]]:
        """N captions of each picture, the longest first (what teaching an LSTM wants)."""
        drawn = sample_search(
            self.model,
            memory,
            self.limits,
            self.sampling,
            candidates=self.settings.samples,
            keys=[f"self-critical/{epoch}/{row}" for row in rows],
        )
        return [sorted(group, key=lambda said: -len(said.tokens)) for group in drawn]

    def reward(self, rows: Sequence[int], said: list[list[Hypothesis]]) -> Floats:
        """CIDEr-D [B, N] of each picture's captions, 0..10, scored in one call."""
        width = len(said[0])
        flat = [hypothesis.tokens for group in said for hypothesis in group]
        rewards = cider_reward(
            self.references,
            np.repeat(np.asarray(rows), width).tolist(),
            [self.tokenizer.decode(tokens) for tokens in flat],
            self.frequencies,
            [tokens[-1] == self.limits.eos for tokens in flat],
        )
        return rewards.reshape(-1, width)

    def loss(self, memory: Memory, drawn: list[list[Hypothesis]], gains_BN: Floats) -> Tensor:
        """-(1 / M) * sum of advantage x log-probability over all M tokens, end tokens included.

        One divisor for the whole batch: a mean over each caption's own tokens would weigh long
        captions less, and with that reward lengths instead of words.
        """
        captions_BNT, real_BNT = self._padded(drawn, memory.tokens_BSD.device)
        log_M = self.log_probabilities(memory, captions_BNT, real_BNT)
        gains = torch.from_numpy(gains_BN).to(log_M)
        gains_M = gains[:, :, None].expand_as(real_BNT)[real_BNT]
        return -(gains_M * log_M).mean()

    def log_probabilities(self, memory: Memory, captions_BNT: Tensor, real_BNT: Tensor) -> Tensor:
        """[M] log-probabilities of the tokens under the distribution they were drawn from.

        `captions` begin with the begin token, so they have one more place than `real`.
        """
        limits = self.limits
        logits_MV = self.model.teach(memory, captions_BNT[..., :-1], real_BNT).logits_MV.float()
        refused = torch.zeros_like(logits_MV, dtype=torch.bool)
        refused[:, list(limits.banned)] = True
        # As decode.rules: no end before the least length.
        refused[:, limits.eos] |= real_BNT.nonzero()[:, 2] < limits.min_len
        log_MV = (logits_MV / self.sampling.temperature).masked_fill(refused, -torch.inf)
        targets_M = captions_BNT[..., 1:][real_BNT]
        log_M: Tensor = log_MV.log_softmax(-1).gather(1, targets_M[:, None])[:, 0]
        return log_M

    def _padded(self, drawn: list[list[Hypothesis]], device: torch.device) -> tuple[Tensor, Tensor]:
        """[B, N, T + 1] ids with the begin token first, and [B, N, T] where there is a token."""
        flat = [hypothesis.tokens for group in drawn for hypothesis in group]
        lengths = torch.tensor([len(tokens) for tokens in flat])
        longest, shape = int(lengths.max()), (len(drawn), len(drawn[0]))
        rows = [
            [self.limits.bos, *tokens, *[self.limits.pad] * (longest - len(tokens))]
            for tokens in flat
        ]
        real = torch.arange(longest) < lengths[:, None]
        captions = torch.tensor(rows).unflatten(0, shape)
        return captions.to(device), real.unflatten(0, shape).to(device)
