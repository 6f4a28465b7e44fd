"""Two systems' predictions beside each other: by metric, and the images that changed most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.metrics import DocumentFrequencies, References, score_captions
from pipeline.metrics.bootstrap import Difference, paired_bootstrap
from pipeline.metrics.ngrams import Floats
from pipeline.results.json_file import ImageId
from pipeline.results.predictions import Predictions
from pipeline.results.references import ReferenceCaptions

MOST = 10
"""Images shown that gained, and that lost, most."""


@dataclass(frozen=True)
class ChangedImage:
    """An image with both systems' captions of it and their CIDEr-D, in 0..10."""

    image_id: ImageId
    file_name: str | None
    caption_a: str
    caption_b: str
    cider_a: float
    cider_b: float


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same references; differences are b - a."""

    metrics: dict[str, Difference]
    gained: list[ChangedImage]
    """At most `MOST` images whose CIDEr-D rose, the largest gain first."""
    lost: list[ChangedImage]
    """At most `MOST` images whose CIDEr-D fell, the largest loss first."""
    resamples: int
    seed: int
    signature: str


def compare_predictions(
    references: ReferenceCaptions,
    a: Predictions,
    b: Predictions,
    frequencies: DocumentFrequencies | None = None,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Score two systems and compare them by paired bootstrap over images."""
    prepared = References(references.captions)
    ours = score_captions(prepared, a.captions, frequencies)
    theirs = score_captions(prepared, b.captions, frequencies)
    gains: Floats = theirs.per_image["cider"] - ours.per_image["cider"]
    rising = np.argsort(gains, kind="stable")[:MOST].tolist()
    falling = np.argsort(-gains, kind="stable")[:MOST].tolist()

    def image(place: int) -> ChangedImage:
        return ChangedImage(
            references.ids[place],
            references.file_names[place],
            a.captions[place],
            b.captions[place],
            float(ours.per_image["cider"][place]),
            float(theirs.per_image["cider"][place]),
        )

    return Comparison(
        metrics=paired_bootstrap(ours, theirs, resamples, seed),
        gained=[image(place) for place in falling if gains[place] > 0],
        lost=[image(place) for place in rising if gains[place] < 0],
        resamples=resamples,
        seed=seed,
        signature=ours.signature,
    )
