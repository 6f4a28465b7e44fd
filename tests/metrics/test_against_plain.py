"""The fast metrics against plain.py: seeded random corpora, built to meet the odd cases often."""

from __future__ import annotations

import random

import numpy as np
import plain
import pytest

from pipeline.metrics import (
    METRICS,
    DocumentFrequencies,
    References,
    cider_reward,
    ptb,
    score_captions,
)

CORPORA = 100
SEEDS = range(16)

WORDS = ["dog", "cat", "man", "red", "runs", "on", "a", "the", "it's", "t-shirt", "café", "1 1/2"]
ONLY_HYPOTHESES = ["zebra", "unheard-of"]
PUNCTUATION = [".", "...", "!?", ",", "- -"]


def caption(rng: random.Random, words: list[str]) -> str:
    """Mostly a few words; now and then none, punctuation alone, one word many times, or many."""
    kind = rng.random()
    if kind < 0.06:
        return ""
    if kind < 0.1:
        return rng.choice(PUNCTUATION)
    if kind < 0.15:
        return " ".join([rng.choice(words)] * rng.randint(2, 8))
    length = rng.randint(63, 66) if kind > 0.99 else rng.randint(1, 9)
    return " ".join(rng.choice(words) for _ in range(length))


def corpus(rng: random.Random) -> tuple[list[list[str]], list[str]]:
    """1 to 5 images of 1 to 4 references each, and a hypothesis an image."""
    words = WORDS[: rng.randint(2, len(WORDS))]
    references = [
        [caption(rng, words) for _ in range(rng.randint(1, 4))] for _ in range(rng.randint(1, 5))
    ]
    hypotheses = [
        rng.choice(image) if rng.random() < 0.15 else caption(rng, words + ONLY_HYPOTHESES)
        for image in references
    ]
    return references, hypotheses


def tokens(captions: list[str], end_token: bool = False) -> list[list[str]]:
    end = ["."] if end_token else []
    return [line.split() + end for line in ptb.tokenize(captions)]


def tokens_at_spaces(captions: list[str]) -> list[list[str]]:
    """As ROUGE-L reads them, to which a no-break space does not part words."""
    return [line.split(" ") if line else [] for line in ptb.tokenize(captions)]


def close(expected):
    """To 1e-9 of the value, however small it is; plain sums round differently in the last bits."""
    return pytest.approx(expected, rel=1e-9, abs=1e-300)


def plain_cider(hypotheses, references, table, end_token=False) -> list[float]:
    return [
        plain.cider_d(h, tokens(r, end_token), *table)
        for h, r in zip(tokens(hypotheses, end_token), references, strict=True)
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_metric_of_every_image_and_of_the_corpus(seed):
    rng = random.Random(seed)
    for _ in range(CORPORA):
        references, hypotheses = corpus(rng)
        case = f"{references!r} {hypotheses!r}"
        own, theirs = tokens(hypotheses), [tokens(image) for image in references]
        expected = {
            **{
                f"bleu_{n + 1}": [plain.bleu([h], [r])[n] for h, r in zip(own, theirs, strict=True)]
                for n in range(4)
            },
            "rouge_l": [
                plain.rouge_l(h, tokens_at_spaces(r))
                for h, r in zip(tokens_at_spaces(hypotheses), references, strict=True)
            ],
            "cider": plain_cider(hypotheses, references, plain.document_frequencies(theirs)),
        }
        scores = score_captions(references, hypotheses)
        assert tuple(scores.corpus) == tuple(scores.per_image) == METRICS
        for metric, values in expected.items():
            assert scores.per_image[metric].tolist() == close(values), (metric, case)
        bleu = [scores.corpus[f"bleu_{n}"] for n in range(1, 5)]
        assert bleu == close(plain.bleu(own, theirs)), case
        for metric in ("rouge_l", "cider"):
            mean = sum(expected[metric]) / len(hypotheses)
            assert scores.corpus[metric] == close(mean), (metric, case)
        counts = [plain.bleu_statistics(h, r) for h, r in zip(own, theirs, strict=True)]
        assert scores.bleu_statistics.tolist() == counts, case


@pytest.mark.parametrize("end_token", [False, True])
@pytest.mark.parametrize("seed", SEEDS[:4])
def test_cider_under_a_stored_table(seed, end_token):
    rng = random.Random(1000 + seed)
    for _ in range(CORPORA):
        training, _ = corpus(rng)
        references, hypotheses = corpus(rng)
        table = plain.document_frequencies([tokens(image, end_token) for image in training])
        expected = plain_cider(hypotheses, references, table, end_token)
        stored = References(training, end_token=end_token).document_frequencies
        prepared = References(references, end_token=end_token)
        case = f"{training!r} {references!r} {hypotheses!r}"
        scores = score_captions(prepared, hypotheses, stored)
        assert scores.per_image["cider"].tolist() == close(expected), case
        assert scores.corpus["cider"] == close(sum(expected) / len(expected)), case


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_rewards_of_captions_that_end_and_that_break_off(seed):
    rng = random.Random(2000 + seed)
    for _ in range(CORPORA):
        references, _ = corpus(rng)
        table = plain.document_frequencies([tokens(image, True) for image in references])
        images = [rng.randrange(len(references)) for _ in range(rng.randint(1, 6))]
        hypotheses = [caption(rng, WORDS + ONLY_HYPOTHESES) for _ in images]
        ended = [rng.random() < 0.5 for _ in images]
        expected = [
            plain.cider_d(h + ["."] * end, tokens(references[image], True), *table)
            for h, image, end in zip(tokens(hypotheses), images, ended, strict=True)
        ]
        prepared = References(references, end_token=True)
        rewards = cider_reward(prepared, images, hypotheses, prepared.document_frequencies, ended)
        assert rewards.tolist() == close(expected), (references, images, hypotheses, ended)


@pytest.mark.parametrize("seed", SEEDS[:4])
def test_document_frequencies_are_the_plain_ones(seed, tmp_path):
    rng = random.Random(3000 + seed)
    for _ in range(20):
        references, _ = corpus(rng)
        images, found = plain.document_frequencies([tokens(image) for image in references])
        table = References(references).document_frequencies
        table.save(tmp_path / "df")
        for one in (table, DocumentFrequencies.load(tmp_path / "df")):
            assert one.images == images and len(one.table) == len(found)
            assert {g: one[g] for g in found} == found


@pytest.mark.parametrize("images", [2, 9170, 19143])
def test_an_ngram_of_every_image_weighs_exactly_nothing(images):
    """`math.log` and NumPy's differ in the last bit for the latter two; any rest would be 2.5."""
    scores = score_captions([["a"]] * images, ["a"] * images)
    assert not np.any(scores.per_image["cider"])
