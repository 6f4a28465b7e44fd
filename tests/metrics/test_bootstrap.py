"""Resampling against a plain loop, and against truths that are known because they were drawn."""

import random

import numpy as np
import pytest

from pipeline.metrics import METRICS, References, Scores, bootstrap, score_captions
from pipeline.metrics.bleu import bleu_scores
from pipeline.metrics.bootstrap import confidence_intervals, paired_bootstrap

WORDS = ["a", "red", "circle", "left", "of", "the", "blue", "square", "above", "two"]


def drawn_scores(generator: np.random.Generator, images: int, gain: float = 0.0) -> Scores:
    """Of images whose ROUGE-L and CIDEr-D have the expectations 0.4 + gain and 0.8 + gain."""
    lengths = generator.integers(5, 12, images)
    possible = np.maximum(lengths[:, None] - np.arange(4), 0)
    matched = generator.binomial(possible, [0.6, 0.4, 0.25, 0.15])
    statistics = np.column_stack([matched, possible, lengths, generator.integers(5, 12, images)])
    per_image = {
        "rouge_l": generator.uniform(0, 0.8, images) + gain,
        "cider": generator.exponential(0.8, images) + gain,
    }
    corpus = {f"bleu_{n}": float(s) for n, s in enumerate(bleu_scores(statistics.sum(0)), 1)}
    corpus |= {metric: float(column.mean()) for metric, column in per_image.items()}
    return Scores(corpus, per_image, statistics, "a signature")


def captions(seed: int, images: int) -> list[str]:
    source = random.Random(seed)
    return [" ".join(source.choices(WORDS, k=source.randint(3, 9))) for _ in range(images)]


@pytest.fixture(scope="module")
def pair() -> tuple[Scores, Scores]:
    images = 40
    references = References(list(zip(captions(1, images), captions(2, images), strict=True)))
    return score_captions(references, captions(3, images)), score_captions(
        references, captions(4, images)
    )


def plain_bootstrap(a: Scores, b: Scores, resamples: int, seed: int) -> dict[str, tuple]:
    """One resample after the other: draw, score again, sort."""
    images = len(a.bleu_statistics)
    generator = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for _ in range(resamples):
        places = generator.integers(images, size=images)
        for metric in METRICS:
            pair = []
            for system in (a, b):
                if metric.startswith("bleu"):
                    sums = system.bleu_statistics[places].sum(0)
                    pair.append(bleu_scores(sums)[int(metric[-1]) - 1])
                else:
                    pair.append(sum(system.per_image[metric][place] for place in places) / images)
            drawn[metric].append(pair[1] - pair[0])
    found = {}
    for metric, differences in drawn.items():
        real = b.corpus[metric] - a.corpus[metric]
        shift = sum(differences) / resamples
        as_large = sum(abs(difference - shift) >= abs(real) for difference in differences)
        low, high = np.percentile(differences, [2.5, 97.5])
        found[metric] = (real, low, high, (as_large + 1) / (resamples + 1))
    return found


def test_it_is_the_plain_loop(pair):
    expected = plain_bootstrap(*pair, resamples=300, seed=5)
    found = paired_bootstrap(*pair, resamples=300, seed=5)
    assert tuple(found) == METRICS
    for metric, difference in found.items():
        assert (difference.a, difference.b) == (pair[0].corpus[metric], pair[1].corpus[metric])
        assert (
            difference.difference,
            difference.low,
            difference.high,
            difference.p_value,
        ) == pytest.approx(expected[metric], rel=1e-9, abs=1e-10)


def test_the_interval_of_one_system_is_the_plain_loop(pair):
    scores = pair[0]
    generator = np.random.default_rng(3)
    places = [generator.integers(40, size=40) for _ in range(200)]
    bleu = [bleu_scores(scores.bleu_statistics[place].sum(0))[3] for place in places]
    cider = [scores.per_image["cider"][place].mean() for place in places]
    found = confidence_intervals(scores, resamples=200, seed=3)
    for metric, values in (("bleu_4", bleu), ("cider", cider)):
        low, high = np.percentile(values, [2.5, 97.5])
        assert found[metric].score == scores.corpus[metric]
        assert (found[metric].low, found[metric].high) == pytest.approx((low, high), abs=1e-10)


def test_the_result_does_not_depend_on_the_size_of_a_chunk(pair, monkeypatch):
    whole = paired_bootstrap(*pair, resamples=500)
    for cells in (1, 40 * 7, 40 * 499):
        monkeypatch.setattr(bootstrap, "_CELLS", cells)
        assert paired_bootstrap(*pair, resamples=500) == whole


def test_the_seed_decides(pair):
    first = paired_bootstrap(*pair, resamples=200, seed=1)
    assert first == paired_bootstrap(*pair, resamples=200, seed=1)
    assert first != paired_bootstrap(*pair, resamples=200, seed=2)


def test_swapping_the_systems_changes_signs_alone(pair):
    there = paired_bootstrap(*pair, resamples=300)
    back = paired_bootstrap(*reversed(pair), resamples=300)
    for metric in METRICS:
        assert back[metric].difference == -there[metric].difference
        assert back[metric].low == pytest.approx(-there[metric].high)
        assert back[metric].p_value == there[metric].p_value


def test_identical_systems_differ_by_nothing(pair):
    for difference in paired_bootstrap(pair[0], pair[0], resamples=200).values():
        assert (difference.difference, difference.low, difference.high) == (0, 0, 0)
        assert difference.p_value == 1


def test_a_clear_gain_has_the_smallest_p_value():
    generator = np.random.default_rng(0)
    a, b = drawn_scores(generator, 500), drawn_scores(generator, 500, gain=0.3)
    found = paired_bootstrap(a, b, resamples=999)
    for metric in ("rouge_l", "cider"):
        assert found[metric].p_value == 1 / 1000
        assert 0 < found[metric].low < 0.3 < found[metric].high


def test_equals_are_told_apart_as_often_as_the_level_says_and_intervals_cover_the_truth():
    # Taking absolute values before the shift would tell 10 % of equals apart at the level 5 %.
    generator = np.random.default_rng(0)
    small, covered, comparisons = 0, 0, 500
    for seed in range(comparisons):
        a, b = drawn_scores(generator, 80), drawn_scores(generator, 80)
        found = paired_bootstrap(a, b, resamples=400, seed=seed)
        small += found["rouge_l"].p_value <= 0.05
        interval = confidence_intervals(a, resamples=400, seed=seed)["rouge_l"]
        covered += interval.low <= 0.4 <= interval.high
    assert 0.03 < small / comparisons < 0.075
    assert 0.92 < covered / comparisons < 0.98


def test_pairing_sees_a_gain_that_is_small_beside_the_spread_of_images():
    generator = np.random.default_rng(0)
    a = drawn_scores(generator, 200)
    shifted = a.per_image["cider"] + generator.normal(0.02, 0.05, 200)
    b = Scores(
        {**a.corpus, "cider": float(shifted.mean())},
        {**a.per_image, "cider": shifted},
        a.bleu_statistics,
        a.signature,
    )
    found = paired_bootstrap(a, b, resamples=1000)["cider"]
    alone = confidence_intervals(a, resamples=1000)["cider"]
    assert found.p_value < 0.01
    assert alone.low < found.b < alone.high


def test_one_image_and_empty_captions():
    scores = score_captions([["a dog"]], [""])
    found = paired_bootstrap(scores, scores, resamples=10)
    assert all(difference.p_value == 1 for difference in found.values())


def test_what_cannot_be_compared_is_refused(pair):
    a, b = pair
    other = Scores(b.corpus, b.per_image, b.bleu_statistics, "another")
    with pytest.raises(ValueError, match="different signatures"):
        paired_bootstrap(a, other)
    fewer = Scores(
        b.corpus,
        {metric: column[:-1] for metric, column in b.per_image.items()},
        b.bleu_statistics[:-1],
        b.signature,
    )
    with pytest.raises(ValueError, match="40 and 39"):
        paired_bootstrap(a, fewer)
    with pytest.raises(ValueError, match="resamples"):
        paired_bootstrap(a, b, resamples=0)
    with pytest.raises(ValueError, match="resamples"):
        confidence_intervals(a, resamples=0)


@pytest.mark.parametrize(("images", "least"), [(1, 1.0), (2, 0.5), (3, 0.25), (8, 1 / 128)])
def test_a_handful_of_images_proves_nothing(images: int, least: float) -> None:
    references = [["a red dog runs over there"], ["two blue cats sleep here"]] * 4
    good = [caption for (caption,) in references[:images]]
    poor = ["something else"] * images
    prepared = References(references[:images])
    found = paired_bootstrap(score_captions(prepared, poor), score_captions(prepared, good))
    assert found["bleu_4"].difference > 0.9
    assert found["bleu_4"].p_value >= least


def test_a_score_that_is_no_number_is_refused() -> None:
    scores = drawn_scores(np.random.default_rng(0), 50)
    broken = drawn_scores(np.random.default_rng(0), 50)
    broken.per_image["cider"][3] = np.nan
    with pytest.raises(ValueError, match="cider is not a finite number"):
        paired_bootstrap(scores, broken)
