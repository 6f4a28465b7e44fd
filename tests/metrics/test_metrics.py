"""BLEU, ROUGE-L and CIDEr-D against frozen numbers of pycocoevalcap and a slow, plain reading.

coco_caption_golden.json holds captions written for it with pycocoevalcap 1.2's scores of them.
"""

import json
import math
import random
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.metrics import METRICS, DocumentFrequencies, References, score_captions

GOLDEN = json.loads(
    Path(__file__).with_name("coco_caption_golden.json").read_text(encoding="utf-8")
)
CLOSE = {"rel": 1e-9, "abs": 1e-300}


def test_corpus_and_image_scores_are_those_of_pycocoevalcap():
    scores = score_captions(GOLDEN["references"], GOLDEN["hypotheses"])
    assert tuple(scores.corpus) == tuple(scores.per_image) == METRICS
    for metric in METRICS:
        assert scores.corpus[metric] == pytest.approx(GOLDEN["corpus"][metric], **CLOSE)
        assert scores.per_image[metric] == pytest.approx(GOLDEN["per_image"][metric], **CLOSE)


def test_the_example_of_aac_metrics():
    references = [
        [
            "a man speaks.",
            "someone speaks.",
            "a man is speaking while a bird is chirping in the background",
        ],
        ["rain is falling hard on a surface"],
    ]
    scores = score_captions(references, ["a man is speaking", "rain falls"])
    assert scores.corpus["cider"] == pytest.approx(0.9613547, abs=5e-8)
    assert scores.per_image["cider"] == pytest.approx([1.3640549, 0.5586545], abs=5e-8)
    assert scores.corpus["bleu_1"] == pytest.approx(0.4278476, abs=5e-8)
    assert scores.corpus["rouge_l"] == pytest.approx(0.4870693, abs=5e-8)


# The formulas once more, plainly: token lists in, nothing prepared or shared.


def ngrams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def plain_bleu(pairs):
    scores = []
    for order in range(1, 5):
        product, length, reference_length = 1.0, 0, 0
        for n in range(1, order + 1):
            matched = guessed = 0
            for words, references in pairs:
                guess = ngrams(words, n)
                guessed += len(guess)
                for gram in set(guess):
                    most = max(ngrams(reference, n).count(gram) for reference in references)
                    matched += min(guess.count(gram), most)
            product *= (matched + 1e-15) / (guessed + 1e-9)
        for words, references in pairs:
            length += len(words)
            reference_length += min(
                (len(r) for r in references), key=lambda size: (abs(size - len(words)), size)
            )
        ratio = (length + 1e-15) / (reference_length + 1e-9)
        penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
        scores.append(penalty * product ** (1 / order))
    return scores


def plain_rouge(words, references):
    words = words or [""]
    precisions, recalls = [], []
    for reference in (tokens or [""] for tokens in references):
        table = [[0] * (len(words) + 1) for _ in range(len(reference) + 1)]
        for i, a in enumerate(reference):
            for j, b in enumerate(words):
                table[i + 1][j + 1] = (
                    table[i][j] + 1 if a == b else max(table[i][j + 1], table[i + 1][j])
                )
        precisions.append(table[-1][-1] / len(words))
        recalls.append(table[-1][-1] / len(reference))
    p, r = max(precisions), max(recalls)
    return 0.0 if p == 0 or r == 0 else (1 + 1.2**2) * p * r / (r + 1.2**2 * p)


def plain_cider(words, references, corpus):
    def vector(text, n):
        weights = {}
        for gram, count in Counter(ngrams(text, n)).items():
            images = sum(any(gram in ngrams(r, n) for r in image) for image in corpus)
            weights[gram] = count * (math.log(len(corpus)) - math.log(max(1, images)))
        return weights

    def norm(weights):
        return math.sqrt(sum(weight**2 for weight in weights.values()))

    score = 0.0
    for reference in references:
        delta = len(ngrams(words, 2)) - len(ngrams(reference, 2))
        for n in range(1, 5):
            h, r = vector(words, n), vector(reference, n)
            if norm(h) and norm(r):
                dot = sum(min(h[gram], r.get(gram, 0.0)) * r.get(gram, 0.0) for gram in h)
                score += dot / (norm(h) * norm(r)) * math.exp(-(delta**2) / 72) / 4
    return 10 * score / len(references)


@pytest.mark.parametrize("seed", range(60))
def test_random_cases_equal_the_plain_reading(seed):
    rng = random.Random(seed)
    vocabulary = ["dog", "cat", "man", "red", "runs", "on", "a", "the"][: rng.randint(2, 8)]

    def line(longest):
        return [rng.choice(vocabulary) for _ in range(rng.randint(0, longest))]

    corpus = [[line(9) for _ in range(rng.randint(1, 5))] for _ in range(rng.randint(1, 6))]
    hypotheses = [line(9) for _ in corpus]
    pairs = list(zip(hypotheses, corpus, strict=True))
    scores = score_captions(
        [[" ".join(reference) for reference in image] for image in corpus],
        [" ".join(words) for words in hypotheses],
    )
    assert [scores.corpus[f"bleu_{n}"] for n in range(1, 5)] == pytest.approx(
        plain_bleu(pairs), **CLOSE
    )
    for index, (words, references) in enumerate(pairs):
        assert [scores.per_image[f"bleu_{n}"][index] for n in range(1, 5)] == pytest.approx(
            plain_bleu([(words, references)]), **CLOSE
        )
        assert scores.per_image["rouge_l"][index] == pytest.approx(
            plain_rouge(words, references), **CLOSE
        )
        assert scores.per_image["cider"][index] == pytest.approx(
            plain_cider(words, references, corpus), rel=1e-9, abs=1e-12
        )


def test_one_image_alone_scores_no_cider():
    scores = score_captions([["a red dog runs fast"]], ["a red dog runs fast"])
    assert scores.corpus["cider"] == 0.0
    assert scores.corpus["bleu_4"] == pytest.approx(1.0, abs=1e-8)
    assert scores.corpus["rouge_l"] == pytest.approx(1.0)


def test_two_disjoint_images_matched_perfectly_score_ten():
    captions = ["a red dog runs fast", "two blue cats sleep here"]
    scores = score_captions([[caption] for caption in captions], captions)
    assert scores.per_image["cider"] == pytest.approx([10.0, 10.0])


def test_an_empty_hypothesis_scores_nothing():
    references = [["a red dog"], ["two blue cats sleep here"]]
    scores = score_captions(references, ["", "two blue cats sleep here"])
    for metric in METRICS:
        assert scores.per_image[metric][0] == 0.0
        assert scores.per_image[metric][1] > 0.9


def test_a_caption_of_punctuation_is_an_empty_one():
    references = [["a red dog"], ["two blue cats"]]
    assert score_captions(references, [" . ", "x"]).per_image == (
        score_captions(references, ["", "x"]).per_image
    )


def test_one_matched_token_of_none_is_nearly_but_not_quite_zero():
    score = score_captions([["a red dog runs"]], ["cats sleep here now"]).corpus["bleu_4"]
    assert 0 < score < 1e-7


def test_no_references_for_an_image_is_an_error_that_names_it():
    with pytest.raises(ValueError, match=r"references\[1\]"):
        score_captions([["a"], [], ["b"]], ["a", "b", "c"])


def test_unequal_numbers_of_hypotheses_are_an_error():
    with pytest.raises(ValueError, match="1 hypotheses for 2 images"):
        score_captions([["a"], ["b"]], ["a"])
    with pytest.raises(ValueError, match="nothing to score"):
        score_captions([], [])


def test_a_subset_changes_cider_unless_the_table_is_stored():
    references, hypotheses = GOLDEN["references"], GOLDEN["hypotheses"]
    table = References(references).document_frequencies
    whole = score_captions(references, hypotheses).per_image["cider"]
    assert score_captions(references, hypotheses, table).per_image["cider"] == whole
    subset = score_captions(references[:3], hypotheses[:3]).per_image["cider"]
    assert subset != pytest.approx(whole[:3], rel=1e-3)
    assert score_captions(references[:3], hypotheses[:3], table).per_image["cider"] == whole[:3]
    for metric in METRICS[:5]:
        alone = score_captions(references[:3], hypotheses[:3], table).per_image[metric]
        assert alone == score_captions(references, hypotheses).per_image[metric][:3]


def test_prepared_references_give_the_same_scores_under_either_table():
    references, hypotheses = GOLDEN["references"], GOLDEN["hypotheses"]
    prepared = References(references)
    other = References([["a dog"], ["a plate of food"], ["the ball"]]).document_frequencies
    for table in (None, other, None):
        assert score_captions(prepared, hypotheses, table) == (
            score_captions(references, hypotheses, table)
        )


def test_document_frequencies_survive_a_file(tmp_path):
    table = References(GOLDEN["references"]).document_frequencies
    assert table.images == 6
    assert table.counts["a",] == 6
    assert table.counts["is", "n't"] == 1
    table.save(tmp_path / "df.json")
    loaded = DocumentFrequencies.load(tmp_path / "df.json")
    assert loaded == table
    assert loaded.fingerprint == table.fingerprint
    again = References(GOLDEN["references"][::-1]).document_frequencies
    assert again.fingerprint == table.fingerprint
    assert References([["a dog"]]).document_frequencies.fingerprint != table.fingerprint


def test_scoring_does_not_grow_the_table():
    table = References([["a dog runs"], ["a cat"]]).document_frequencies
    before = dict(table.counts)
    score_captions([["some new words"]], ["entirely other words"], table)
    assert table.counts == before


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"format": "other", "images": 1, "counts": {}}',
        '{"format": "captionmill document frequencies 1", "images": 2, "counts": {"a": 3}}',
        '{"format": "captionmill document frequencies 1", "images": 0, "counts": {}}',
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, text):
    path = tmp_path / "df.json"
    path.write_text(text)
    with pytest.raises(DataError, match=r"df\.json"):
        DocumentFrequencies.load(path)


def test_a_table_that_is_absent_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.json"):
        DocumentFrequencies.load(tmp_path / "nowhere.json")


def test_a_thousand_images_score_in_well_under_a_second_when_prepared():
    rng = random.Random(0)
    words = [f"{a}{b}" for a in "bcdfglmnprst" for b in "aeiou"]

    def line():
        return " ".join(rng.choices(words, k=11))

    references = References([[line() for _ in range(5)] for _ in range(1000)])
    hypotheses = [line() for _ in range(1000)]
    score_captions(references, hypotheses)
    # Processor time, and the best of three: neighbours on the machine are not measured.
    seconds = []
    for _ in range(3):
        started = time.process_time()
        score_captions(references, hypotheses)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 1.0
