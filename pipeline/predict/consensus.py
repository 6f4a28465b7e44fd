"""Consensus: of the captions that beams find, the one that agrees best with what the model would say.

Beam search gives the likeliest captions, and likelihood is no measure of captions. This is minimum
Bayes risk decoding (Kumar and Byrne 2004) with CIDEr-D for its gain: random captions of the same
picture stand in for the references that nobody wrote, and each caption found by beams is scored
against them. Devlin et al. 2015 (arXiv:1505.04467) take the captions of similar photos instead.
"""

from __future__ import annotations

from itertools import chain

import numpy as np

from pipeline.config_model import ConsensusConfig
from pipeline.decode import Hypothesis, Limits, Sampling, beam_search, sample_search
from pipeline.metrics import DocumentFrequencies, References, cider_reward
from pipeline.models.captioner import Captioner, Memory
from pipeline.text import Tokenizer


class Consensus:
    """Beam search, and a choice among what it found."""

    def __init__(
        self, settings: ConsensusConfig, tokenizer: Tokenizer, frequencies: DocumentFrequencies
    ) -> None:
        """A consensus among captions that weigh words as `frequencies` do."""
        self.settings, self.tokenizer, self.frequencies = settings, tokenizer, frequencies

    @property
    def views(self) -> int:
        """Memories a picture: its own and, with `mirrored`, that of the mirrored picture."""
        return 2 if self.settings.mirrored else 1

    def search(
        self, model: Captioner, memory: Memory, limits: Limits, *, beam: int
    ) -> list[list[Hypothesis]]:
        """All that `beam` beams find of each picture, the one with most consensus first.

        Args:
            model: the captioner.
            memory: of B pictures or, with `mirrored`, of B pictures and then of B mirrored ones.
            limits: what a caption may be.
            beam: beams a view.
        """
        # A copy: a search on a GPU keeps and overwrites what it was given (decode.capture).
        copy = Memory(memory.tokens_BSD.clone())
        found = self._of_pictures(beam_search(model, memory, limits, beam=beam, candidates=beam))
        pictures = len(found)
        drawn = self._of_pictures(
            sample_search(
                model,
                copy,
                limits,
                Sampling(temperature=self.settings.temperature),
                candidates=self.settings.samples,
                # By view alone: a caption depends on the picture and not on its neighbours.
                keys=[view for view in range(self.views) for _ in range(pictures)],
            )
        )
        return [self._sorted(*both) for both in zip(found, drawn, strict=True)]

    def _of_pictures(self, views: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
        pictures = len(views) // self.views
        return [list(chain.from_iterable(views[place::pictures])) for place in range(pictures)]

    def _sorted(self, found: list[Hypothesis], drawn: list[Hypothesis]) -> list[Hypothesis]:
        likeliest = {one.tokens: one for one in sorted(found, key=lambda one: one.score)}
        captions = list(likeliest.values())
        gains = cider_reward(
            References([[self.tokenizer.decode(one.tokens) for one in drawn]]),
            [0] * len(captions),
            [self.tokenizer.decode(one.tokens) for one in captions],
            self.frequencies,
        )
        gains = gains + self.settings.likelihood * np.array([one.score for one in captions])
        return [captions[place] for place in np.argsort(-gains, kind="stable")]
