"""Consensus: of the captions that beams find, the one that agrees best with what the model would say.

Beam search gives the likeliest captions, and likelihood is no measure of captions. This is minimum
Bayes risk decoding (Kumar and Byrne 2004) with CIDEr-D for its gain: random captions of the same
picture stand in for the references that nobody wrote, and each caption found by beams is scored
against them; and against the captions of training photos that look alike (`neighbours.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.config_model import ConsensusConfig
from pipeline.decode import Hypothesis, Limits, Sampling, beam_search, sample_search
from pipeline.metrics import DocumentFrequencies, References, cider_reward
from pipeline.metrics.ngrams import Floats
from pipeline.models.captioner import Captioner, Memory
from pipeline.models.reference import reference_memory
from pipeline.predict.neighbours import Neighbours
from pipeline.predict.views import VIEWS
from pipeline.sides import Sides
from pipeline.text import Tokenizer


class Consensus:
    """Beam search, and a choice among what it found."""

    def __init__(
        self,
        settings: ConsensusConfig,
        tokenizer: Tokenizer,
        frequencies: DocumentFrequencies,
        neighbours: Neighbours | None = None,
        reference: Captioner | None = None,
    ) -> None:
        """A consensus among captions that weigh words as `frequencies` do.

        With a `reference` captions are drawn from that, of its part of the memory.
        """
        self.settings, self.tokenizer, self.frequencies = settings, tokenizer, frequencies
        self.neighbours, self.reference = neighbours, reference
        self.views, self.sides = settings.views, Sides(settings.flip_words)

    def search(
        self, model: Captioner, memory: Memory, limits: Limits, *, beam: int
    ) -> list[list[Hypothesis]]:
        """All that `beam` beams find of each picture, the one with most consensus first.

        Args:
            model: the captioner.
            memory: of B pictures, then of each other view of them (`views.all_views`).
            limits: what a caption may be.
            beam: beams a view.
        """
        pictures = len(memory.tokens_BSD) // self.views
        # Copies: a search on a GPU keeps and overwrites what it was given (decode.capture).
        drawn = self._draw(model, Memory(memory.tokens_BSD.clone()), limits)
        said = self._neighbours(Memory(memory.tokens_BSD[:pictures].clone()))
        found = self._of_pictures(beam_search(model, memory, limits, beam=beam, candidates=beam))
        return [self._sorted(*each) for each in zip(found, drawn, said, strict=True)]

    def _draw(self, model: Captioner, memory: Memory, limits: Limits) -> list[list[str]]:
        pictures = len(memory.tokens_BSD) // self.views
        if not self.settings.samples:
            return [[] for _ in range(pictures)]
        if self.reference is not None:
            model, memory = self.reference, reference_memory(memory)
        drawn = sample_search(
            model,
            memory,
            limits,
            Sampling(temperature=self.settings.temperature),
            candidates=self.settings.samples,
            # By view alone: a caption depends on the picture and not on its neighbours.
            keys=[view for view in range(self.views) for _ in range(pictures)],
        )
        return [[text for _, text in each] for each in self._of_pictures(drawn)]

    def _neighbours(self, memory: Memory) -> list[list[str]]:
        if self.neighbours is None:
            return [[] for _ in range(len(memory.tokens_BSD))]
        return self.neighbours.nearest(memory, self.settings.neighbours)

    def _of_pictures(self, views: list[list[Hypothesis]]) -> list[list[tuple[Hypothesis, str]]]:
        """Each picture's captions, of all its views, as texts too; none that a mirror turned false."""
        pictures = len(views) // self.views
        out: list[list[tuple[Hypothesis, str]]] = [[] for _ in range(pictures)]
        for number, (_, mirrored) in enumerate(VIEWS[: self.views]):
            for place, hypotheses in enumerate(views[number * pictures : (number + 1) * pictures]):
                texts = [(one, self.tokenizer.decode(one.tokens)) for one in hypotheses]
                out[place] += [
                    (one, text)
                    for one, text in texts
                    if not (mirrored and self.sides.are_named(text))
                ]
        return out

    def _sorted(
        self, found: list[tuple[Hypothesis, str]], drawn: list[str], said: list[str]
    ) -> list[Hypothesis]:
        likeliest = {
            one.tokens: (one, text) for one, text in sorted(found, key=lambda f: f[0].score)
        }
        captions, texts = zip(*likeliest.values(), strict=True)
        gains = self.settings.likelihood * np.array([one.score for one in captions])
        for weight, others in ((1.0, drawn), (self.settings.neighbours_weight, said)):
            if others:
                gains = gains + weight * self._gains(texts, others)
        return [captions[place] for place in np.argsort(-gains, kind="stable")]

    def _gains(self, texts: Sequence[str], others: list[str]) -> Floats:
        references = References([others])
        return cider_reward(references, [0] * len(texts), texts, self.frequencies)
