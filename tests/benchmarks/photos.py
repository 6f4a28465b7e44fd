"""How well training photos tell what people say of one of them that is left out.

    python tests/benchmarks/photos.py MODEL [--photos 500] [--captions 1000]

MODEL is a captioner's directory with photos (`train.generation.consensus.photos`). For each of some
of its photos, the captions of all others choose among some captions of other photos: that with the
most weighed CIDEr-D, by kernel ridge regression without the photo itself (its weights are
-A_ij / A_ii, where A is the inverse of kernel + ridge). Prints the mean CIDEr-D (x100) of what is chosen
with the photo's own captions, by ridge and by what n-grams of 1 to 4 words count; beside them the
captions of the 60 nearest photos, all alike, and the best of the captions. No validation photo is looked at.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from pipeline.metrics import DocumentFrequencies, References, WeighedReferences, cider_reward
from pipeline.metrics.ngrams import Floats, Ints
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import Photos
from pipeline.predict.consensus import ORDERS

ALIKE = (1.0, 1.0, 1.0, 1.0)
RIDGES = (0.1, 0.3, 0.5, 1.0, 3.0)
OTHERS = ((2.0, 1.0, 1.0, 1.0), (1.0, 1.0, 0.6, 0.1), (1.0, 0.5, 0.25, 0.1), (1.0, 0.0, 0.0, 0.0))
NEAREST = 60


def left_out(photos: Photos, chosen: Ints) -> Floats:
    """Weights of all photos for each of those chosen, as if it were none of them."""
    inverse = photos.solution_NN.double().numpy()
    weights: Floats = -inverse[chosen] / inverse[chosen, chosen][:, None]
    weights[np.arange(len(chosen)), chosen] = 0
    return weights


def nearest(photos: Photos, chosen: Ints) -> Floats:
    """The same for the nearest photos, by cosine."""
    own = torch.nn.functional.normalize(photos.embeddings_ND.float(), dim=-1)
    likeness = own[chosen] @ own.T
    likeness[torch.arange(len(chosen)), chosen] = -1
    places = likeness.topk(min(NEAREST, len(own))).indices
    return torch.zeros_like(likeness).scatter_(1, places, 1 / NEAREST).double().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--captions", type=int, default=1000)
    given = parser.parse_args()
    saved = SavedCaptioner.load(given.model)
    assert saved.photos is not None, f"{given.model} keeps no photos"
    assert saved.document_frequencies is not None
    photos = Photos.from_bytes(saved.photos)
    frequencies = DocumentFrequencies.from_bytes(saved.document_frequencies)
    rng = np.random.default_rng(0)
    count = len(photos.captions)
    chosen = rng.permutation(count)[: given.photos]
    # Of photos that are not asked about, so that nobody's own captions are among them.
    others = np.setdiff1d(np.arange(count), chosen)
    pool = [photos.captions[place][0] for place in rng.permutation(others)[: given.captions]]
    references = References([photos.captions[place] for place in chosen])
    truth = np.array(
        [cider_reward(references, [n] * len(pool), pool, frequencies) for n in range(len(chosen))]
    )
    weighed = WeighedReferences(References(photos.captions), frequencies)
    print(f"{len(chosen):,} photos, {len(pool):,} captions to choose from; CIDEr-D x100\n")
    print("| weights | n-grams of 1, 2, 3, 4 words count | CIDEr-D of the caption chosen |")
    print("|---|---|---:|", flush=True)

    def row(name: str, weights: Floats, orders: tuple[float, ...]) -> None:
        scores = [weighed.cider_d(pool, one, orders) for one in weights]
        picked = truth[np.arange(len(chosen)), np.argmax(scores, 1)].mean()
        print(
            f"| {name} | {', '.join(f'{o:g}' for o in orders)} | {100 * picked:.1f} |", flush=True
        )

    row(f"the {NEAREST} nearest alike", nearest(photos, chosen), ALIKE)
    for ridge in RIDGES:
        fitted = Photos.fit(photos.embeddings_ND, photos.captions, ridge)
        for orders in (ALIKE, ORDERS):
            row(f"ridge {ridge:g}", left_out(fitted, chosen), orders)
    fitted = Photos.fit(photos.embeddings_ND, photos.captions, RIDGES[1])
    for orders in OTHERS:
        row(f"ridge {RIDGES[1]:g}", left_out(fitted, chosen), orders)
    print(f"| the best of the captions | | {100 * truth.max(1).mean():.1f} |")


if __name__ == "__main__":
    main()
