"""BLEU, ROUGE-L and CIDEr-D against frozen numbers of pycocoevalcap and a slow, plain reading.

coco_caption_golden.json holds captions written for it with pycocoevalcap 1.2's scores of them.
"""

import json
import random
from pathlib import Path

import numpy as np
import plain
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DataError
from pipeline.metrics import (
    METRICS,
    DocumentFrequencies,
    References,
    cider_reward,
    ptb,
    score_captions,
)

GOLDEN = json.loads(
    Path(__file__).with_name("coco_caption_golden.json").read_text(encoding="utf-8")
)
CLOSE = {"rel": 1e-9, "abs": 1e-300}


def assert_equal(one, other):
    """To the last bit."""
    assert one.signature == other.signature
    assert one.corpus == other.corpus
    assert np.array_equal(one.bleu_statistics, other.bleu_statistics)
    for metric in METRICS:
        assert one.per_image[metric].tolist() == other.per_image[metric].tolist()


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
    assert_equal(score_captions(references, [" . ", "x"]), score_captions(references, ["", "x"]))


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
    whole = score_captions(references, hypotheses).per_image["cider"].tolist()
    stored = score_captions(references, hypotheses, table).per_image
    assert stored["cider"].tolist() == whole
    subset = score_captions(references[:3], hypotheses[:3]).per_image["cider"].tolist()
    assert subset != pytest.approx(whole[:3], rel=1e-3)
    alone = score_captions(references[:3], hypotheses[:3], table).per_image
    for metric in METRICS:
        assert alone[metric].tolist() == stored[metric][:3].tolist()


def test_prepared_references_give_the_same_scores_under_either_table():
    references, hypotheses = GOLDEN["references"], GOLDEN["hypotheses"]
    prepared = References(references)
    other = References([["a dog"], ["a plate of food"], ["the ball"]]).document_frequencies
    for table in (None, other, None):
        assert_equal(
            score_captions(prepared, hypotheses, table),
            score_captions(references, hypotheses, table),
        )


def test_document_frequencies_survive_a_file(tmp_path):
    table = References(GOLDEN["references"]).document_frequencies
    assert table.images == 6
    assert table["a",] == 6
    assert table["is", "n't"] == 1
    assert table["is", "nowhere"] == table["nowhere",] == 0
    table.save(tmp_path / "df.parquet")
    loaded = DocumentFrequencies.load(tmp_path / "df.parquet")
    assert loaded.fingerprint == table.fingerprint
    assert loaded["is", "n't"] == 1
    references, hypotheses = GOLDEN["references"], GOLDEN["hypotheses"]
    assert_equal(
        score_captions(references, hypotheses, loaded),
        score_captions(references, hypotheses, table),
    )
    again = References(GOLDEN["references"][::-1]).document_frequencies
    assert again.fingerprint == table.fingerprint
    assert References([["a dog"]]).document_frequencies.fingerprint != table.fingerprint


def test_the_file_is_a_row_an_ngram_that_anyone_reads(tmp_path):
    References([["a red dog", "a dog"], ["a cat"]]).document_frequencies.save(
        tmp_path / "df.parquet"
    )
    rows = pq.read_table(tmp_path / "df.parquet").to_pydict()
    counts = dict(zip(rows["ngram"], rows["images"], strict=True))
    assert counts == {"a": 2, "cat": 1, "dog": 1, "red": 1, "a cat": 1, "a dog": 1, "a red": 1,
                      "red dog": 1, "a red dog": 1}  # fmt: skip


def test_a_table_of_captions_without_words_survives_too(tmp_path):
    table = References([["."], ["?"]]).document_frequencies
    table.save(tmp_path / "df.parquet")
    assert DocumentFrequencies.load(tmp_path / "df.parquet").fingerprint == table.fingerprint
    assert score_captions([["."], ["?"]], ["!", "a"], table).corpus["cider"] == 0.0


def test_scoring_does_not_grow_the_table():
    table = References([["a dog runs"], ["a cat"]]).document_frequencies
    before = table.to_bytes()
    score_captions([["some new words"]], ["entirely other words"], table)
    assert table["some",] == 0
    assert table.to_bytes() == before


def write_table(path, ngrams, counts, metadata):
    table = pa.table({"ngram": ngrams, "images": pa.array(counts, pa.int32())})
    pq.write_table(table.replace_schema_metadata(metadata), path)


OURS = {
    "captionmill": "captionmill document frequencies 2",
    "images": "2",
    "end_token": "no",
    "tokeniser": f"ptb{ptb.VERSION}",
    "fingerprint": "0123456789abcdef",
}


@pytest.mark.parametrize(
    ("ngrams", "counts", "metadata", "because"),
    [
        (["a"], [1], {}, "not of the format"),
        (["a"], [1], {**OURS, "captionmill": "other"}, "not of the format"),
        (["a"], [3], OURS, "do not fit 2 images"),
        (["a"], [0], OURS, "do not fit 2 images"),
        (["a"], [1], {**OURS, "images": "many"}, "many"),
        (["a"], [1], {**OURS, "images": "0"}, "counts 0 images"),
        (["a"], [1], {**OURS, "images": "1" + "0" * 400}, "damaged"),
        (["a"], [1], {**OURS, "tokeniser": "ptb0"}, "tokenised by ptb0"),
        (["b", "a"], [1, 1], OURS, "not in order"),
        (["a", "a"], [1, 1], OURS, "not in order"),
        (["a", "a b"], [1, 1], OURS, "without their beginnings or words"),
        (["a", "a b c d e"], [1, 1], OURS, "more than 4 words"),
        (["a"], [1], OURS, "damaged"),
    ],
)
def test_a_file_that_is_no_table_is_named(tmp_path, ngrams, counts, metadata, because):
    write_table(tmp_path / "df.parquet", ngrams, counts, metadata)
    with pytest.raises(DataError, match=rf"df\.parquet.*{because}"):
        DocumentFrequencies.load(tmp_path / "df.parquet")


def test_a_directory_is_no_table(tmp_path):
    with pytest.raises(DataError, match="no regular file"):
        DocumentFrequencies.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1 and then nothing"])
def test_a_file_that_is_no_parquet_is_named(tmp_path, content):
    (tmp_path / "df.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"df\.parquet"):
        DocumentFrequencies.load(tmp_path / "df.parquet")


def test_a_table_that_is_absent_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.parquet"):
        DocumentFrequencies.load(tmp_path / "nowhere.parquet")


def test_rewards_are_cider_against_the_stored_table():
    references = References(GOLDEN["references"])
    stored = References([["a dog runs"], ["the plate"], ["a man is here"]]).document_frequencies
    expected = score_captions(references, GOLDEN["hypotheses"], stored).per_image["cider"]
    images = [3, 0, 3, 5]
    hypotheses = [GOLDEN["hypotheses"][image] for image in images]
    rewards = cider_reward(references, images, hypotheses, stored)
    assert rewards.tolist() == expected[images].tolist()
    assert cider_reward(references, [], [], stored).tolist() == []


def test_a_reward_does_not_depend_on_its_neighbours():
    references = References([["vitamin C"], ["a cat"]])
    table = References([["vitamin C"], ["a cat"], ["a dog"]]).document_frequencies
    rewards = [
        cider_reward(references, [0, 1], ["vitamin C.", neighbour], table)[0]
        for neighbour in ("The cat", "cat", "")
    ]
    assert len(set(rewards)) == 1


def test_the_last_reward_is_of_whole_tokens():
    references = References([["they'll"], ["a cat"]])
    assert cider_reward(references, [0], ["they'll"], references.document_frequencies)[0] > 4.9


def test_a_caption_that_breaks_off_is_rewarded_less_where_the_end_counts():
    captions = [["a dog runs on the grass"], ["a man sits on a bench"], ["a red bus"]]
    references = References(captions, end_token=True)
    table = references.document_frequencies
    assert table["grass", "."] == 1
    whole, cut = ["a dog runs on the grass"], ["a dog runs on the"]
    ended = cider_reward(references, [0], whole, table)[0]
    broken = cider_reward(references, [0], whole, table, ended=[False])[0]
    assert ended == pytest.approx(10.0)
    assert broken < ended
    plain = References(captions)
    lost = 10.0 - cider_reward(plain, [0], cut, plain.document_frequencies)[0]
    assert 10.0 - cider_reward(references, [0], cut, table, ended=[False])[0] > lost
    assert "|eos:yes|" in score_captions(references, ["a", "b", "c"]).signature


def test_a_table_with_ends_is_not_mixed_with_references_without(tmp_path):
    captions = [["a dog runs"], ["a cat"]]
    table = References(captions, end_token=True).document_frequencies
    table.save(tmp_path / "df.parquet")
    with pytest.raises(ValueError, match="only the document frequencies count the end"):
        score_captions(captions, ["a", "b"], table)
    with pytest.raises(DataError, match="as rewards do and scores do not"):
        DocumentFrequencies.load(tmp_path / "df.parquet")
    loaded = DocumentFrequencies.load(tmp_path / "df.parquet", end_token=True)
    assert loaded.fingerprint == table.fingerprint
    other = References(captions).document_frequencies
    assert other.fingerprint != table.fingerprint
    with pytest.raises(ValueError, match="only the references count the end"):
        cider_reward(References(captions, end_token=True), [0], ["a"], other)


def test_rewards_refuse_images_that_are_not_there():
    references = References([["a dog"], ["a cat"]])
    table = references.document_frequencies
    with pytest.raises(ValueError, match="from 0 to 2, the references from 0 to 1"):
        cider_reward(references, [0, 2], ["a", "b"], table)
    with pytest.raises(ValueError, match="2 hypotheses with 1 images"):
        cider_reward(references, [0], ["a", "b"], table)
    for images, hypotheses in (([0.9], ["a"]), ([True], ["a"]), ([[0]], ["a"]), ([0, 1], "ab")):
        with pytest.raises(ValueError, match="list of whole numbers"):
            cider_reward(references, images, hypotheses, table)


@pytest.mark.parametrize("length", [255, 256, 20_000])
def test_rouge_of_a_hypothesis_much_longer_than_all_others(length):
    references = [["a dog runs"], ["a red cat"]]
    longest = ["dog", *["a"] * length]
    scores = score_captions(references, [" ".join(longest), "a cat"])
    assert scores.per_image["rouge_l"].tolist() == pytest.approx(
        [
            plain.rouge_l(longest, [["a", "dog", "runs"]]),
            plain.rouge_l(["a", "cat"], [["a", "red", "cat"]]),
        ],
        **CLOSE,
    )


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_rouge_of_captions_longer_than_a_machine_word(length):
    rng = random.Random(length)
    words = ["dog", "cat", "man", "red", "runs"]
    reference = [rng.choice(words) for _ in range(length)]
    hypothesis = [rng.choice(words) for _ in range(rng.randint(1, 90))]
    scores = score_captions([[" ".join(reference)]], [" ".join(hypothesis)])
    assert scores.corpus["rouge_l"] == pytest.approx(
        plain.rouge_l(hypothesis, [reference]), **CLOSE
    )
