"""Self-critical training's step: draw captions, reward them with CIDEr-D, make the better likelier.

REINFORCE (Williams 1992) with Rennie et al. 2017's reward and greedy baseline ('Self-Critical
Sequence Training for Image Captioning', section 3), or Luo 2020's baseline, the mean of the
picture's other captions ('A Better Variant of Self-Critical Sequence Training'). Letters as in
`models.captioner`; N captions drawn of a picture, M tokens drawn in all.

Knows no optimiser, no data order and no file: `pipeline.train.run` steps with the loss.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import TrainConfig
from pipeline.config_self_critical import SelfCriticalConfig
from pipeline.decode import Hypothesis, Limits, Sampling, greedy_search, sample_search
from pipeline.metrics import DocumentFrequencies, References, cider_reward
from pipeline.metrics.ngrams import Floats
from pipeline.models.captioner import Captioner, Memory
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import search_limits
from pipeline.text import Tokenizer
from pipeline.train.asked import asked_places
from pipeline.train.collapse import CaptionFigures, CollapseGuard


@dataclass(frozen=True)
class Outcome:
    """What one step gives."""

    loss: Tensor
    """What is minimised."""
    figures: dict[str, float]
    """For the log, over the batch: reward, baseline and advantage_std (CIDEr-D x100); sample_tokens
    (a caption's mean), ended and repeats (shares); draw_seconds, reward_seconds and
    forward_seconds (of the pass that the gradient goes back through)."""
    drawn: CaptionFigures
    """The captions drawn, counted; `SelfCritical.guard` watches those of a whole batch."""


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
            guard: to watch what is drawn, batch by batch (see `Outcome.drawn`).
            seed: of the drawing.
        """
        assert references.end_token, "references without the end token reward broken captions"
        assert frequencies.end_token, "document frequencies without the end token"
        self.model, self.tokenizer, self.guard = model, tokenizer, guard
        self.references, self.frequencies = references, frequencies
        self.settings = settings
        self.limits = replace(limits, ngram_block=0, repetition_penalty=1.0, banned_runs=())
        self.sampling = Sampling(temperature=settings.temperature, seed=seed)

    @classmethod
    def of(
        cls,
        saved: SavedCaptioner,
        captions: Sequence[Sequence[str]],
        settings: TrainConfig,
        table: Path,
    ) -> Self:
        """The second phase of a training, which has one.

        Args:
            saved: the captioner as the first phase left it; its model is the one trained.
            captions: of each picture of the training split, in the order of the rows.
            settings: of the training.
            table: where the split's document frequencies for rewards are stored; counted and
                committed if they are not there yet.

        Raises:
            DataError: the stored table is damaged or no such table.
        """
        assert settings.self_critical is not None
        references = References(captions, end_token=True)
        if not table.exists():
            references.document_frequencies.save(table)
        tokenizer = saved.tokenizer
        texts = [text for group in captions for text in group]
        said = [ids[1:] for ids in tokenizer.encode(texts, settings.max_caption_tokens)]
        return cls(
            saved.model,
            tokenizer,
            references,
            DocumentFrequencies.load(table, end_token=True),
            settings.self_critical,
            search_limits(tokenizer, saved.generation),
            CollapseGuard(settings.self_critical.guard, said, tokenizer.eos),
            seed=settings.seed,
        )

    def step(
        self, features: Tensor, rows: Sequence[int], epoch: int, pictures: int | None = None
    ) -> Outcome:
        """The loss of one batch, or of a part of one; `backward` is the caller's.

        The same (seed, epoch, row) and parameters draw the same captions, whatever ran before. Sets
        the model's mode: evaluation, with `dropout` the decoder in training.

        Args:
            features: of B pictures, at least one, as `model.memory` takes them.
            rows: each picture's place in the references.
            epoch: counts, so that a picture is drawn anew each time.
            pictures: of the whole batch, where this is a part (a rank's, or a piece of it): the
                parts' losses, and their gradients, add up to the batch's. Default: B.
        """
        started = time.perf_counter()
        # Without dropout: drawn from the very distribution whose gradient is taken, which is also
        # the one that captions are written with later.
        self.model.eval()
        memory = self.model.memory(features)
        drawn = self.draw(memory, rows, epoch)
        greedy = None
        if self.settings.baseline == "greedy":
            greedy = greedy_search(self.model, memory, self.limits)
        sampled = time.perf_counter()
        rewards_BN = self.reward(rows, drawn)
        gains_BN = advantages(
            rewards_BN, None if greedy is None else self.reward(rows, greedy)[:, 0]
        )
        judged = time.perf_counter()
        if self.settings.dropout:
            self.model.decoder.train()
            memory = self.model.memory(features)
        loss = self.loss(memory, drawn, gains_BN) * (len(rows) / (pictures or len(rows)))
        tokens = [hypothesis.tokens for group in drawn for hypothesis in group]
        seen = CaptionFigures(self.limits.eos)
        seen.add(tokens)
        figures = {
            "reward": 100 * float(rewards_BN.mean()),
            "baseline": 100 * float((rewards_BN - gains_BN).mean()),
            "advantage_std": 100 * float(gains_BN.std()),
            "sample_tokens": seen.length,
            "ended": seen.ended_share,
            "repeats": seen.repeats,
            "draw_seconds": sampled - started,
            "reward_seconds": judged - sampled,
            "forward_seconds": time.perf_counter() - judged,
        }
        return Outcome(loss, figures, seen)

    def draw(self, memory: Memory, rows: Sequence[int], epoch: int) -> list[list[Hypothesis]]:
        """N captions of each picture, the longest first (what teaching an LSTM wants)."""
        # A copy: a search on a GPU keeps and overwrites what it was given (decode.capture).
        drawn = sample_search(
            self.model,
            Memory(memory.tokens_BSD.detach().clone()),
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
        """-(1 / (B N L)) * sum over B x N captions of advantage x sum of log-probabilities.

        End tokens are among the tokens. L, the references' mean length, is a constant that brings
        the loss to the scale of a token, as cross-entropy's; the captions' own lengths instead
        would weigh long captions less and so reward lengths.
        """
        captions_BNT, real_BNT = self._padded(drawn, memory.tokens_BSD.device)
        asked, _ = asked_places(real_BNT)
        log_M = self.log_probabilities(memory, captions_BNT, asked)[real_BNT[asked]]
        gains = torch.from_numpy(gains_BN).to(log_M)
        gains_M = gains[:, :, None].expand_as(real_BNT)[real_BNT]
        return -(gains_M * log_M).sum() / (gains.numel() * self.guard.reference.length)

    def log_probabilities(self, memory: Memory, captions_BNT: Tensor, at_BNT: Tensor) -> Tensor:
        """[M] log-probabilities of the tokens under the distribution they were drawn from.

        `captions` begin with the begin token, so they have one more place than the mask `at`.
        """
        limits, temperature = self.limits, self.sampling.temperature
        logits_MV = self.model.teach(memory, captions_BNT[..., :-1], at_BNT).logits_MV.float()
        if temperature != 1:
            logits_MV = logits_MV / temperature
        # In place: M x V numbers are the step's largest tensor.
        logits_MV[:, list(limits.banned)] = -torch.inf
        early_M = at_BNT.nonzero()[:, 2] < limits.min_len  # as decode.rules
        logits_MV[early_M, limits.eos] = -torch.inf
        return -F.cross_entropy(logits_MV, captions_BNT[..., 1:][at_BNT], reduction="none")

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
