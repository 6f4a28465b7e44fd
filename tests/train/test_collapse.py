"""The guard stops training on captions that no reader would want, and on no others."""

from __future__ import annotations

import json
import random

import pytest

from pipeline.config_self_critical import GuardConfig
from pipeline.train.collapse import CaptionFigures, CollapseGuard

EOS = 2
RANDOM = random.Random(4)
# Sixty words, the first the most frequent; lengths of 8 to 12 with the end token.
REFERENCES = [
    [*RANDOM.choices(range(3, 63), [1 / (n + 2) for n in range(60)], k=RANDOM.randint(7, 11)), EOS]
    for _ in range(400)
]


def guard(**limits) -> CollapseGuard:
    # Words drawn at random repeat pairs more than people do.
    settings = GuardConfig(**{"window": 100, "max_repeats": 0.2, **limits})
    return CollapseGuard(settings, REFERENCES, EOS)


def drawn(change):
    return [change(list(tokens)) for tokens in REFERENCES[:100]]


def test_figures_by_hand():
    figures = CaptionFigures(EOS)
    figures.add([(5, 6, 5, 6, 5, EOS), (7, 8), (EOS,)])
    assert (figures.captions, figures.length, figures.ended_share) == (3, 3.0, 2 / 3)
    # Of 56 65 56 65 5E 78 two came before.
    assert figures.repeats == pytest.approx(2 / 6)
    assert figures.vocabulary == {5, 6, 7, 8, EOS}


def test_healthy_captions_pass():
    assert guard().add(drawn(lambda tokens: tokens)) is None
    fewer_words = drawn(lambda tokens: [min(token, 30) for token in tokens])
    assert guard().add(fewer_words) is None, "what is learned has fewer words than people"


COLLAPSED = {
    "0% of them come to their end": lambda tokens: tokens[:-1],
    "% of their token pairs are repeats": lambda tokens: [*tokens[:2] * 5, EOS],
    r"4\.0 tokens on average, 0\.\d+ times the references' \d+\.\d": lambda t: [*t[:3], EOS],
    r"times the references'": lambda tokens: [*tokens[:-1], *range(100, 110), EOS],
    r"7 different tokens, 0\.\d+ times the \d+ in \d+ ref": lambda _: [3, 4, 5, 6, 7, 8, 3, 5, EOS],
}


@pytest.mark.parametrize("figure", COLLAPSED)
def test_each_kind_of_collapse_is_named_with_its_figures(figure):
    verdict = guard(min_vocabulary=0.15).add(drawn(COLLAPSED[figure]))
    assert verdict is not None
    with pytest.raises(AssertionError, match=figure):
        raise AssertionError(verdict)
    assert verdict.startswith("of the last 100 captions drawn: ")


def test_a_verdict_waits_for_a_whole_window_and_then_begins_anew():
    watch = guard()
    broken = drawn(lambda tokens: tokens[:-1])
    assert watch.add(broken[:99]) is None
    assert watch.add(broken[:1]) is not None
    assert watch.add(broken[:99]) is None, "the window before is forgotten"


def test_a_window_in_progress_survives_a_restart():
    watch, again = guard(), guard()
    assert watch.add(drawn(lambda tokens: tokens[:-1])[:60]) is None
    again.restore(json.loads(json.dumps(watch.state())))
    rest = drawn(lambda tokens: tokens)[:40]
    verdict = again.add(rest)
    assert verdict == watch.add(rest)
    assert "40% of them come to their end" in str(verdict)
