"""Search against exhaustive enumeration, and what it promises for every model."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch

from pipeline.decode import Limits, beam_search, greedy_search, search
from pipeline.models.captioner import Memory

VOCABULARY, BOS, EOS, PAD = 6, 1, 2, 0
BANNED = (PAD, BOS)


@dataclass(frozen=True)
class TableState:
    """A picture's own random table of logits by (step, previous token, the one before)."""

    tables: torch.Tensor
    previous: torch.Tensor
    step: int
    attention: None = None

    def select(self, rows):
        width = len(self.previous) // len(self.tables)
        tables = self.tables
        if len(rows) != len(self.previous):
            tables = tables[rows[::width] // width]
        return TableState(tables, self.previous[rows], self.step)


class TableModel:
    """A captioner whose memory is the table itself; no training, no pictures."""

    def init_state(self, memory, width):
        return TableState(memory.tokens_BSD, torch.full((len(memory.tokens_BSD) * width,), PAD), 0)

    def step(self, tokens, state, attention=False):
        tables = state.tables.view(-1, 8, VOCABULARY, VOCABULARY, VOCABULARY)
        picture = torch.arange(len(tokens)) // (len(tokens) // len(tables))
        logits = tables[picture, state.step, tokens, state.previous]
        return logits, TableState(state.tables, tokens, state.step + 1)


def memory_of(pictures: int, seed: int) -> Memory:
    generator = torch.Generator().manual_seed(seed)
    return Memory(torch.randn(pictures, 8, VOCABULARY**3, generator=generator) * 2)


def every_caption(memory: Memory, picture: int, limits: Limits):
    """(normalised score, tokens) of all captions that are allowed."""
    table = memory.tokens_BSD[picture].view(8, VOCABULARY, VOCABULARY, VOCABULARY).log_softmax(-1)
    words = [t for t in range(VOCABULARY) if t not in (*BANNED, EOS)]
    found = []
    for length in range(1, limits.max_len + 1):
        for head in itertools.product(words, repeat=length - 1):
            lasts = [EOS] if length > limits.min_len else []
            if length == limits.max_len:
                lasts = [*lasts, *words]
            for last in lasts:
                tokens = (*head, last)
                path = (PAD, BOS, *tokens)
                total = sum(float(table[i, path[i + 1], path[i], t]) for i, t in enumerate(tokens))
                found.append((total / length**limits.length_penalty, tokens))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("min_len", [0, 2])
def test_a_wide_beam_is_exhaustive_search(penalty, min_len):
    limits = Limits(BOS, EOS, PAD, BANNED, max_len=4, min_len=min_len, length_penalty=penalty)
    memory = memory_of(5, seed=3)
    found = beam_search(TableModel(), memory, limits, beam=200, candidates=5)
    for picture, hypotheses in enumerate(found):
        expected = every_caption(memory, picture, limits)[:5]
        assert [h.tokens for h in hypotheses] == [tokens for _, tokens in expected]
        ranks = [h.log_probability / len(h.tokens) ** penalty for h in hypotheses]
        assert ranks == pytest.approx([score for score, _ in expected], abs=1e-5)


@pytest.mark.parametrize("beam", [1, 2, 3, 5])
def test_a_picture_is_searched_alike_alone_and_among_others(beam):
    limits = Limits(BOS, EOS, PAD, BANNED, max_len=8)
    memory = memory_of(40, seed=7)
    together = search(TableModel(), memory, limits, beam=beam)
    alone = [
        search(TableModel(), memory.select(torch.tensor([i])), limits, beam=beam)[0]
        for i in range(40)
    ]
    assert together == alone
    assert len({len(h[0].tokens) for h in together}) > 2, "pictures should end at different steps"


def test_beam_one_is_greedy():
    limits = Limits(BOS, EOS, PAD, BANNED, max_len=6)
    memory = memory_of(20, seed=1)
    greedy = greedy_search(TableModel(), memory, limits)
    beam = beam_search(TableModel(), memory, limits, beam=1)
    assert [h[0].tokens for h in greedy] == [h[0].tokens for h in beam]
    assert [h[0].score for h in greedy] == pytest.approx([h[0].score for h in beam], abs=1e-6)


@pytest.mark.parametrize("beam", [1, 3])
def test_there_is_a_caption_also_when_nothing_ends(beam):
    limits = Limits(BOS, EOS, PAD, (*BANNED, EOS), max_len=5)
    for hypotheses in search(TableModel(), memory_of(4, seed=2), limits, beam=beam):
        assert len(hypotheses[0].tokens) == 5
        assert EOS not in hypotheses[0].tokens


@pytest.mark.parametrize("beam", [1, 3])
def test_banned_tokens_and_lengths_are_kept(beam):
    limits = Limits(BOS, EOS, PAD, (*BANNED, 4), max_len=7, min_len=3)
    for hypotheses in search(TableModel(), memory_of(30, seed=5), limits, beam=beam):
        tokens = hypotheses[0].tokens
        assert not {PAD, BOS, 4} & set(tokens)
        assert 3 < len(tokens) <= 7


def test_candidates_are_distinct_and_ranked():
    limits = Limits(BOS, EOS, PAD, BANNED, max_len=6)
    for hypotheses in search(TableModel(), memory_of(10, seed=9), limits, beam=4, candidates=4):
        assert len({h.tokens for h in hypotheses}) == len(hypotheses)
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)
