"""Search against exhaustive enumeration, and what it promises for every model."""

from __future__ import annotations

import math
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

    def init_state(self, memory, width, max_len):
        return TableState(memory.tokens_BSD, torch.full((len(memory.tokens_BSD) * width,), PAD), 0)

    def step(self, tokens, state, attention=False):
        tables = state.tables.view(-1, 8, VOCABULARY, VOCABULARY, VOCABULARY)
        picture = torch.arange(len(tokens)) // (len(tokens) // len(tables))
        logits = tables[picture, state.step, tokens, state.previous]
        return logits, TableState(state.tables, tokens, state.step + 1)


def memory_of(pictures: int, seed: int) -> Memory:
    generator = torch.Generator().manual_seed(seed)
    return Memory(torch.randn(pictures, 8, VOCABULARY**3, generator=generator) * 2)


def allowed_scores(table, path, limits: Limits) -> list[float]:
    """log-probabilities after a path that starts (PAD, BOS), the rules applied, in plain words."""
    past = path[1:]
    scores = table[len(past) - 1, path[-1], path[-2]].tolist()
    banned = set(limits.banned)
    for token in range(VOCABULARY):
        if token in past:
            scores[token] *= limits.repetition_penalty
        longer, size = (*past, token), limits.ngram_block
        grams = [longer[i : i + size] for i in range(len(longer) - size + 1)]
        if size and grams and grams[-1] in grams[:-1]:
            banned.add(token)
        banned |= {run[-1] for run in limits.banned_runs if longer[-len(run) :] == run}
    if len(past) <= limits.min_len:
        banned.add(limits.eos)
    return [-math.inf if t in banned else score for t, score in enumerate(scores)]


def every_caption(memory: Memory, picture: int, limits: Limits):
    """(normalised score, tokens) of all captions that are allowed, best first."""
    table = memory.tokens_BSD[picture].view(8, VOCABULARY, VOCABULARY, VOCABULARY).log_softmax(-1)
    found = []

    def continue_from(tokens: tuple[int, ...], total: float) -> None:
        for token, score in enumerate(allowed_scores(table, (PAD, BOS, *tokens), limits)):
            longer = (*tokens, token)
            if score == -math.inf:
                continue
            if token == limits.eos or len(longer) == limits.max_len:
                rank = (total + score) / len(longer) ** limits.length_penalty
                found.append((rank, longer))
            else:
                continue_from(longer, total + score)

    continue_from((), 0.0)
    return sorted(found, reverse=True)


@pytest.mark.parametrize(
    "rules",
    [
        {"length_penalty": 0.0},
        {"length_penalty": 0.6},
        {"length_penalty": 2.0, "min_len": 2},
        {"ngram_block": 1},
        {"ngram_block": 2, "min_len": 3},
        {"repetition_penalty": 1.7},
        {"banned_runs": ((4, 5), (3, 3, 4), (BOS, 4))},
        {"ngram_block": 2, "repetition_penalty": 0.7, "banned_runs": ((5, 4),), "min_len": 1},
    ],
    ids=str,
)
def test_a_wide_beam_is_exhaustive_search(rules):
    limits = Limits(BOS, EOS, PAD, BANNED, **{"max_len": 4, "min_len": 0, **rules})
    memory = memory_of(5, seed=3)
    found = beam_search(TableModel(), memory, limits, beam=200, candidates=5)
    for picture, hypotheses in enumerate(found):
        expected = every_caption(memory, picture, limits)[:5]
        assert [h.tokens for h in hypotheses] == [tokens for _, tokens in expected]
        if limits.repetition_penalty == 1:
            ranks = [h.log_probability / len(h.tokens) ** limits.length_penalty for h in hypotheses]
            assert ranks == pytest.approx([score for score, _ in expected], abs=1e-5)


@pytest.mark.parametrize("beam", [1, 4])
def test_token_log_probabilities_are_the_models_own(beam):
    limits = Limits(BOS, EOS, PAD, BANNED, max_len=6, repetition_penalty=1.5, ngram_block=2)
    memory = memory_of(12, seed=11)
    for picture, (best, *_) in enumerate(search(TableModel(), memory, limits, beam=beam)):
        table = memory.tokens_BSD[picture].view(8, VOCABULARY, VOCABULARY, VOCABULARY)
        path = (PAD, BOS, *best.tokens)
        own = [
            float(table.log_softmax(-1)[i, path[i + 1], path[i], token])
            for i, token in enumerate(best.tokens)
        ]
        assert best.token_log_probabilities == pytest.approx(own, abs=1e-5)
        assert best.log_probability == pytest.approx(sum(own), abs=1e-5)
        assert best.score == pytest.approx(sum(own) / len(own), abs=1e-5)


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


@pytest.mark.parametrize("beam", [1, 3])
def test_where_every_word_is_used_up_the_caption_ends(beam):
    limits = Limits(BOS, EOS, PAD, BANNED, max_len=8, min_len=6, ngram_block=1)
    for hypotheses in search(TableModel(), memory_of(6, seed=4), limits, beam=beam):
        assert sorted(hypotheses[0].tokens) == [EOS, 3, 4, 5]
        assert hypotheses[0].tokens[-1] == EOS


@pytest.mark.parametrize("beam", [1, 3])
def test_no_pictures_no_captions(beam):
    limits = Limits(BOS, EOS, PAD, BANNED, max_len=8)
    assert search(TableModel(), memory_of(0, seed=4), limits, beam=beam) == []


@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize(
    "limits",
    [
        Limits(BOS, EOS, PAD, (*BANNED, 3, 4, 5), max_len=8),
        Limits(BOS, EOS, PAD, (*BANNED, 3, 4), max_len=8, min_len=6, banned_runs=((5, 5),)),
    ],
)
def test_where_every_word_is_banned_the_caption_ends(beam, limits):
    for hypotheses in search(TableModel(), memory_of(6, seed=4), limits, beam=beam):
        assert hypotheses[0].tokens in {(EOS,), (5, EOS)}
        assert math.isfinite(hypotheses[0].score)


def test_more_beams_than_there_are_words_or_captions():
    limits = Limits(BOS, EOS, PAD, BANNED, max_len=2)
    for hypotheses in search(TableModel(), memory_of(6, seed=3), limits, beam=64, candidates=64):
        # Three words, then any of them or the end: the end alone may not come first.
        assert len({h.tokens for h in hypotheses}) == len(hypotheses) == 3 * 4
        assert all(math.isfinite(h.score) for h in hypotheses)
