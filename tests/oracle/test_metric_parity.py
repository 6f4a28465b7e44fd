"""BLEU, ROUGE-L and CIDEr-D equal pycocoevalcap's, to 1e-9 of the larger, on generated corpora.

pycocoevalcap's metrics need no Java, its tokeniser does; both sides get our tokens here.
tests/oracle/metric_parity.py compares more corpora, real ones, and each side's own tokens.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("pycocoevalcap", reason="needs pycocoevalcap: pip install 'captionmill[dev]'")

import metric_parity
from metric_cases import KINDS, cases

NUMBER = {"mixed": 1000, "very long": 30}


@pytest.mark.parametrize("kind", KINDS)
def test_generated_corpora(kind):
    worst = metric_parity.compare(cases(kind, NUMBER.get(kind, 100)), java=False)
    assert max(max(pair) for pair in worst.values()) <= metric_parity.ALLOWED, worst


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java for its tokeniser")
def test_each_side_with_its_own_tokeniser():
    corpora = [case for kind in KINDS for case in cases(kind, 20, seed=1)]
    worst = metric_parity.compare(corpora, java=True)
    assert max(max(pair) for pair in worst.values()) <= metric_parity.ALLOWED, worst


def test_corpora_are_the_same_on_every_run_and_of_their_kind():
    for kind in KINDS:
        assert list(cases(kind, 5)) == list(cases(kind, 5)) != list(cases(kind, 5, seed=1))
    assert all(len(case.references) == 1 for case in cases("one image", 20))
    assert all(len(own) == 1 for case in cases("one reference", 20) for own in case.references)
    assert any("" in case.hypotheses for case in cases("empty hypotheses", 20))
    assert any(len(h.split()) > 64 for case in cases("very long", 20) for h in case.hypotheses)


def test_a_difference_is_relative_to_the_larger():
    assert metric_parity.difference(0.0, 0.0) == 0.0
    assert metric_parity.difference(np.array([1.0, 2e-20]), np.array([1.0, 1e-20])) == 0.5
    assert metric_parity.difference(0.0, 1e-300) == 1.0
    assert metric_parity.difference(1.0, 1.0 + 1e-8) > metric_parity.ALLOWED


def test_the_comparison_notices_a_wrong_score(monkeypatch):
    right = metric_parity.score_captions

    def slightly_wrong(references, hypotheses):
        scores = right(references, hypotheses)
        scores.per_image["cider"][0] *= 1 + 1e-8
        return scores

    monkeypatch.setattr(metric_parity, "score_captions", slightly_wrong)
    worst = metric_parity.compare(cases("mixed", 20), java=False)
    assert worst["cider"][1] > metric_parity.ALLOWED
    assert worst["rouge_l"][1] <= metric_parity.ALLOWED
