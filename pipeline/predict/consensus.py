"""Consensus: of the captions that beams find, the one that agrees best with what the model would say.

Beam search gives the likeliest captions, and likelihood is no measure of captions. This is minimum
Bayes risk decoding (Kumar and Byrne 2004) with CIDEr-D for its gain: random captions of the same
picture stand in for the references that nobody wrote, and each caption found by beams is scored
against them; and against the captions of training photos, as much as each tells about this picture
(`photos.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from pipeline.config_model import ConsensusConfig
from pipeline.decode import Hypothesis, Limits, Sampling, beam_search, sample_search
from pipeline.metrics import DocumentFrequencies, References, WeighedReferences, cider_reward
from pipeline.metrics.ngrams import Floats
from pipeline.models.captioner import Captioner, Memory
from pipeline.models.reference import reference_memory
from pipeline.predict.photos import Photos, embed
from pipeline.predict.views import VIEWS
from pipeline.sides import Sides
from pipeline.text import Tokenizer

ORDERS = (1.0, 1.0, 0.5, 0.25)
"""What n-grams of 1 to 4 words count where photos tell: of the longer ones they are less sure
(tests/benchmarks/photos.py)."""


class Consensus:
    """Beam search, and a choice among what it found."""

    def __init__(
        self,
        settings: ConsensusConfig,
        tokenizer: Tokenizer,
        frequencies: DocumentFrequencies,
        photos: Photos | None = None,
        reference: Captioner | None = None,
    ) -> None:
        """A consensus among captions that weigh words as `frequencies` do.

        With a `reference` captions are drawn from that, of its part of the memory, and it is
        searched as well.
        """
        self.settings, self.tokenizer, self.frequencies = settings, tokenizer, frequencies
        self.photos, self.reference = photos, reference
        self.of_photos = (
            WeighedReferences(References(photos.captions), frequencies) if photos else None
        )
        """What people said of the training photos."""
        self.views, self.sides = settings.views, Sides(settings.flip_words)

    def search(
        self, model: Captioner, memory: Memory, limits: Limits, *, beam: int
    ) -> list[list[Hypothesis]]:
        """All that `beam` beams find of each picture, the one with most consensus first.

        With a reference, what its beams find is among them: it says what reward has made unlikely.

        Args:
            model: the captioner.
            memory: of B pictures, then of each other view of them (`views.all_views`).
            limits: what a caption may be.
            beam: beams a view.
        """
        told = self._weights(memory)
        decoders = self._decoders(model, memory)
        drawn = self._draw(*decoders[-1], limits)
        found = [
            self._of_pictures(beam_search(one, _copy(own), limits, beam=beam, candidates=beam))
            for one, own in decoders
        ]
        together = [list(chain.from_iterable(parts)) for parts in zip(*found, strict=True)]
        return [self._sorted(*each) for each in zip(together, drawn, told, strict=True)]

    def _decoders(self, model: Captioner, memory: Memory) -> list[tuple[Captioner, Memory]]:
        """Those that are searched, each with its memory; captions are drawn from the last."""
        if self.reference is None:
            return [(model, memory)]
        return [(model, memory), (self.reference, reference_memory(memory))]

    def _draw(self, model: Captioner, memory: Memory, limits: Limits) -> list[list[str]]:
        pictures = len(memory.tokens_BSD) // self.views
        if not self.settings.samples:
            return [[] for _ in range(pictures)]
        drawn = sample_search(
            model,
            _copy(memory),
            limits,
            Sampling(temperature=self.settings.temperature),
            candidates=self.settings.samples,
            # By view alone: a caption depends on the picture and not on its neighbours.
            keys=[view for view in range(self.views) for _ in range(pictures)],
        )
        return [[text for _, text in each] for each in self._of_pictures(drawn)]

    def _weights(self, memory: Memory) -> Sequence[Floats | None]:
        """Of the training photos, for each picture."""
        if self.photos is None:
            return [None] * (len(memory.tokens_BSD) // self.views)
        assert memory.mean_BC is not None
        return list(self.photos.weights(embed(memory.mean_BC.unflatten(0, (self.views, -1)))))

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
        self, found: list[tuple[Hypothesis, str]], drawn: list[str], told: Floats | None = None
    ) -> list[Hypothesis]:
        likeliest = {
            one.tokens: (one, text) for one, text in sorted(found, key=lambda f: f[0].score)
        }
        captions, texts = zip(*likeliest.values(), strict=True)
        scores = np.array([one.score for one in captions])
        gains = self.settings.likelihood * scores
        if drawn:
            gains += cider_reward(References([drawn]), [0] * len(texts), texts, self.frequencies)
        if told is not None:
            assert self.of_photos is not None
            gains += self.settings.photos_weight * self.of_photos.cider_d(texts, told, ORDERS)
        # Where nothing tells them apart, the likelier one.
        return [captions[place] for place in np.lexsort((-scores, -gains))]


def _copy(memory: Memory) -> Memory:
    """For a search, which on a GPU keeps and overwrites what it was given (decode.capture)."""
    return Memory(memory.tokens_BSD.clone())
