"""Which images are named as gained and lost, and what is compared."""

from pathlib import Path

import pytest

from pipeline.metrics import References, score_captions
from pipeline.results.comparison import compare_predictions
from pipeline.results.predictions import Predictions
from pipeline.results.references import ReferenceCaptions

NOUNS = [f"noun{number}" for number in range(30)]
TEXTS = [[f"a {noun} in the park", f"the {noun} runs"] for noun in NOUNS]
REFERENCES = ReferenceCaptions(
    Path("c.json"), "", list(range(100, 130)), [f"{noun}.jpg" for noun in NOUNS], TEXTS
)


def predictions(captions: list[str]) -> Predictions:
    return Predictions(Path("r.json"), "", captions, 0)


RIGHT = [texts[0] for texts in TEXTS]
WRONG = ["nothing at all"] * 30


def test_images_are_ordered_by_their_change_and_cut_at_ten():
    a = predictions(RIGHT[:15] + WRONG[15:])
    b = predictions(WRONG[:12] + RIGHT[12:15] + RIGHT[15:18] + ["noun18 runs"] + WRONG[19:])
    found = compare_predictions(REFERENCES, a, b, resamples=20)
    # Equal changes stand in the references' order.
    assert [image.image_id for image in found.gained] == [115, 116, 117, 118]
    assert [image.image_id for image in found.lost] == list(range(100, 110))
    first = found.gained[0]
    assert first.file_name == f"noun{first.image_id - 100}.jpg"
    assert first.caption_a == "nothing at all"
    assert first.caption_b == RIGHT[first.image_id - 100]
    gains = [image.cider_b - image.cider_a for image in found.gained]
    assert gains == sorted(gains, reverse=True)
    assert min(gains) > 0
    assert all(image.cider_b < image.cider_a for image in found.lost)


def test_the_same_system_twice_changes_nothing():
    found = compare_predictions(REFERENCES, predictions(RIGHT), predictions(RIGHT), resamples=20)
    assert (found.gained, found.lost) == ([], [])
    assert {difference.p_value for difference in found.metrics.values()} == {1}


def test_scores_are_those_of_scoring_alone_and_a_stored_table_is_used():
    table = References([*TEXTS, ["the park"], ["the park runs"]]).document_frequencies
    a, b = predictions(WRONG), predictions(RIGHT)
    for frequencies in (None, table):
        alone = score_captions(TEXTS, RIGHT, frequencies)
        found = compare_predictions(REFERENCES, a, b, frequencies, resamples=20)
        assert found.signature == alone.signature
        assert {m: d.b for m, d in found.metrics.items()} == pytest.approx(alone.corpus)
    assert "df:stored(32," in found.signature
