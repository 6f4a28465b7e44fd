"""Scores against all images at once are the weighed sums of the scores against each."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.metrics import DocumentFrequencies, References, WeighedReferences, cider_reward

WORDS = [
    "a",
    "the",
    "dog",
    "man",
    "red",
    "ball",
    "runs",
    "on",
    "in",
    "grass",
    "jumps",
    "over",
    "water",
    "two",
]


def random_captions(count: int, rng: np.random.Generator) -> list[str]:
    return [" ".join(rng.choice(WORDS, rng.integers(1, 14))) for _ in range(count)]


def one_by_one(
    images: list[list[str]], captions: list[str], weights: np.ndarray, table: DocumentFrequencies
) -> np.ndarray:
    references = References(images)
    return sum(
        weight * cider_reward(references, [image] * len(captions), captions, table)
        for image, weight in enumerate(weights)
    )


@pytest.mark.parametrize("seed", range(5))
def test_they_are_the_weighed_sums(seed):
    rng = np.random.default_rng(seed)
    images = [random_captions(rng.integers(1, 6), rng) for _ in range(30)]
    captions = [*random_captions(20, rng), "the the the the", "unheard words", "", "A dog."]
    weights = rng.normal(size=30)
    # Of other images too: some n-grams are in one of the two alone, some in every image.
    table = References([random_captions(3, rng) for _ in range(20)]).document_frequencies
    found = WeighedReferences(References(images), table).cider_d(captions, weights)
    np.testing.assert_allclose(found, one_by_one(images, captions, weights, table), atol=1e-12)


def test_a_caption_scores_the_same_whatever_stands_beside_it():
    rng = np.random.default_rng(7)
    references = References([random_captions(5, rng) for _ in range(30)])
    weighed = WeighedReferences(references, references.document_frequencies)
    captions, weights = random_captions(20, rng), rng.normal(size=30)
    together = weighed.cider_d(captions, weights)
    alone = [weighed.cider_d([caption], weights)[0] for caption in captions]
    assert together.tolist() == alone
    assert weighed.cider_d([], weights).tolist() == []


def test_orders_count_what_they_are_told():
    rng = np.random.default_rng(3)
    references = References([random_captions(5, rng) for _ in range(30)])
    weighed = WeighedReferences(references, references.document_frequencies)
    captions, weights = [*random_captions(20, rng), "two"], rng.normal(size=30)
    parts = [weighed.cider_d(captions, weights, tuple(np.eye(4)[n])) for n in range(4)]
    np.testing.assert_allclose(sum(parts), weighed.cider_d(captions, weights))
    mixed = weighed.cider_d(captions, weights, (1, 2, 0.5, 0))
    np.testing.assert_allclose(mixed, parts[0] + 2 * parts[1] + 0.5 * parts[2])
    assert [part[-1] != 0 for part in parts] == [True, False, False, False]


def test_other_numbers_and_kinds_are_errors():
    references = References([["a dog"], ["a cat"]])
    weighed = WeighedReferences(references, references.document_frequencies)
    with pytest.raises(ValueError, match="weights for 2 images"):
        weighed.cider_d(["a dog"], np.ones(3))
    ended = References([["a dog"]], end_token=True)
    with pytest.raises(ValueError, match="no end token"):
        WeighedReferences(ended, ended.document_frequencies)
