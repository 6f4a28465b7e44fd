"""Sampling: the seed and the picture decide, and the distribution is the one asked for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest
import torch

from pipeline.decode import Limits, Sampling, search
from pipeline.errors import ConfigError
from pipeline.models.captioner import Memory

BOS, EOS, PAD = 1, 2, 0
LIMITS = Limits(BOS, EOS, PAD, (PAD, BOS), max_len=6)


@dataclass(frozen=True)
class Unchanging:
    """Logits that are the picture's own memory, whatever was said."""

    memory: torch.Tensor
    width: int
    attention: None = None

    def select(self, rows):
        return Unchanging(self.memory[rows[:: self.width] // self.width], self.width)


class Model:
    def init_state(self, memory, width, max_len):
        return Unchanging(memory.tokens_BSD[:, 0], width)

    def step(self, tokens, state, attention=False):
        return state.memory.repeat_interleave(state.width, 0), state


def logits(pictures: int, vocabulary: int = 9) -> Memory:
    generator = torch.Generator().manual_seed(5)
    return Memory(torch.randn(pictures, 1, vocabulary, generator=generator))


def test_the_same_seed_draws_the_same_and_another_seed_others():
    memory = logits(20)
    first, again = (
        search(Model(), memory, LIMITS, beam=1, sampling=Sampling(seed=3)) for _ in range(2)
    )
    other = search(Model(), memory, LIMITS, beam=1, sampling=Sampling(seed=4))
    assert first == again
    assert first != other


def test_a_picture_is_drawn_alike_alone_among_others_and_with_more_candidates():
    memory, names = logits(30), [f"picture {i}" for i in range(30)]
    drawn = Sampling(temperature=0.8, top_p=0.9, seed=1)
    together = search(Model(), memory, LIMITS, beam=1, sampling=drawn, keys=names)
    assert len({len(h[0].tokens) for h in together}) > 2, "captions should end at different steps"
    for i in (0, 7, 29):
        one = memory.select(torch.tensor([i]))
        alone = search(
            Model(), one, LIMITS, beam=1, sampling=drawn, keys=names[i : i + 1], candidates=4
        )
        assert len(alone[0]) == 4
        assert alone[0][0] == together[i][0]


@pytest.mark.parametrize(
    ("sampling", "allowed"),
    [
        (Sampling(), {2, 3, 4, 5, 6}),
        (Sampling(temperature=0.5), {2, 3, 4, 5, 6}),
        (Sampling(top_k=2), {5, 6}),
        (Sampling(top_p=0.75), {4, 5, 6}),
        (Sampling(top_k=3, top_p=0.5), {5, 6}),
        (Sampling(top_p=0.01), {6}),
        (Sampling(top_k=50), {2, 3, 4, 5, 6}),
    ],
    ids=str,
)
def test_tokens_are_drawn_as_often_as_asked(sampling, allowed):
    # Of the allowed ones 0.06, 0.09, 0.15, 0.3, 0.4 of the probability.
    chances = torch.tensor([9.0, 9.0, 0.06, 0.09, 0.15, 0.3, 0.4])
    memory = Memory(chances.log()[None, None])
    limits = Limits(BOS, EOS, PAD, (PAD, BOS), max_len=1, min_len=0)
    rounds = 4000
    drawn = search(Model(), memory, limits, beam=1, sampling=sampling, candidates=rounds)
    counts = Counter(h.tokens[0] for h in drawn[0])
    assert set(counts) == allowed
    weights = {t: float(chances[t]) ** (1 / sampling.temperature) for t in allowed}
    for token, weight in weights.items():
        expected = weight / sum(weights.values())
        # Five standard deviations.
        slack = 5 * (expected * (1 - expected) / rounds) ** 0.5
        assert counts[token] / rounds == pytest.approx(expected, abs=slack + 1e-9)


def test_samples_agree_with_transformers_warpers():
    process = pytest.importorskip(
        "transformers.generation.logits_process", reason="needs the dev extra: transformers"
    )
    from pipeline.decode.walk import _draw

    scores = torch.randn(6, 50, generator=torch.Generator().manual_seed(0)) * 2
    for k, p, temperature in ((0, 0.8, 1.0), (7, 1.0, 0.7), (12, 0.6, 1.3), (0, 0.05, 2.0)):
        warped = process.TemperatureLogitsWarper(temperature)(None, scores)
        if k:
            warped = process.TopKLogitsWarper(k)(None, warped)
        if p < 1:
            warped = process.TopPLogitsWarper(p)(None, warped)
        aims = torch.linspace(0, 1, 400, dtype=torch.float64)[:-1]
        drawn = _draw(
            scores[:, None].expand(-1, len(aims), -1),
            aims.expand(6, -1),
            Sampling(temperature, k, p),
        )
        for row in range(6):
            likely = warped[row].softmax(-1)
            assert set(drawn[row].tolist()) <= set(likely.nonzero().flatten().tolist())
            assert likely[sorted(set(drawn[row].tolist()))].sum() > 0.95


def test_equal_pictures_of_other_names_are_drawn_differently():
    memory = Memory(logits(1).tokens_BSD.expand(20, -1, -1))
    drawn = search(Model(), memory, LIMITS, beam=1, sampling=Sampling())
    assert len({h[0].tokens for h in drawn}) > 5


@pytest.mark.parametrize("uniform", [0.0, 1.0 - 2**-53, 1.0])
def test_the_ends_of_the_unit_interval_draw_tokens_that_have_a_chance(uniform):
    from pipeline.decode.walk import _draw

    scores = torch.tensor([[-torch.inf, 1.0, -torch.inf, 2.0, -torch.inf]])
    [[token]] = _draw(scores[None], torch.tensor([[uniform]], dtype=torch.float64), Sampling())
    assert int(token) in (1, 3)


@pytest.mark.parametrize("sampling", [Sampling(top_k=1), Sampling(top_p=1e-9), Sampling(1e-6)])
def test_at_their_narrowest_the_settings_leave_the_likeliest_token(sampling):
    memory = logits(10)
    greedy = search(Model(), memory, LIMITS, beam=1)
    drawn = search(Model(), memory, LIMITS, beam=1, sampling=sampling)
    assert [h[0].tokens for h in drawn] == [h[0].tokens for h in greedy]


@pytest.mark.parametrize("sampling", [Sampling(top_k=99), Sampling(top_p=1.0), Sampling(top_k=9)])
def test_at_their_widest_they_leave_every_token(sampling):
    memory = logits(10)
    free = search(Model(), memory, LIMITS, beam=1, sampling=Sampling(), candidates=400)
    drawn = search(Model(), memory, LIMITS, beam=1, sampling=sampling, candidates=400)
    for one, other in zip(free, drawn, strict=True):
        assert {h.tokens[0] for h in one} == {h.tokens[0] for h in other}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": 0.0}, "temperature = 0.0 .*beam = 1 without sampling"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"temperature": float("inf")}, "temperature = inf"),
        ({"top_k": -1}, "top_k = -1 .*0 for all"),
        ({"top_p": 0.0}, "top_p = 0.0"),
        ({"top_p": 1.5}, "top_p = 1.5 .*at most 1"),
    ],
)
def test_settings_that_nothing_can_be_drawn_by(wrong, message):
    with pytest.raises(ConfigError, match=message):
        Sampling(**wrong)
