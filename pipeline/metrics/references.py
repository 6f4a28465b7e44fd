"""References tokenised and counted once, so that scoring against them again costs little."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from pipeline.metrics import bleu, cider, ptb, rouge
from pipeline.metrics.ngrams import ngram_counts
from pipeline.metrics.signature import references_fingerprint


class References:
    """The references of a list of images, ready to score hypotheses against.

    Attributes:
        tokenized: each image's references as `ptb.tokenize` gives them.

    Raises:
        ValueError: an image has no references; names its place in the list.
    """

    def __init__(self, references: Sequence[Sequence[str]]) -> None:
        for index, captions in enumerate(references):
            if not captions:
                raise ValueError(
                    f"references[{index}] is empty; every image needs at least one reference "
                    "(leave out images without any)"
                )
        lines = iter(ptb.tokenize([line for captions in references for line in captions]))
        self.tokenized = [[next(lines) for _ in captions] for captions in references]
        self._counts = [
            [ngram_counts(line.split()) for line in captions] for captions in self.tokenized
        ]
        self.bleu = [
            bleu.prepare(counts, [len(line.split()) for line in captions])
            for counts, captions in zip(self._counts, self.tokenized, strict=True)
        ]
        # Split at spaces alone: an empty caption is one empty token to ROUGE-L, as in coco-caption.
        self.rouge = [
            [rouge.prepare(line.split(" ")) for line in captions] for captions in self.tokenized
        ]
        self._vectors: tuple[cider.DocumentFrequencies, list[cider.CiderReferences]] | None = None

    def __len__(self) -> int:
        return len(self.tokenized)

    def __repr__(self) -> str:
        captions = sum(map(len, self.tokenized))
        return f"<References: {len(self):,} images, {captions:,} captions>"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the tokenised references in order."""
        return references_fingerprint(self.tokenized)

    @cached_property
    def document_frequencies(self) -> cider.DocumentFrequencies:
        """The table of these references themselves, coco-caption's way."""
        return cider.DocumentFrequencies.of(self._counts)

    def vectors(self, frequencies: cider.DocumentFrequencies) -> list[cider.CiderReferences]:
        """Each image's CIDEr vectors under a table; those of the last table are kept."""
        if self._vectors is None or self._vectors[0] is not frequencies:
            vectors = [cider.prepare(counts, frequencies) for counts in self._counts]
            self._vectors = (frequencies, vectors)
        return self._vectors[1]
