"""Self-critical training: plain arithmetic, the right direction, better captions, the same again."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import mean

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from pipeline.config import TrainConfig, load_config
from pipeline.config_model import GenerationConfig
from pipeline.config_self_critical import GuardConfig, SelfCriticalConfig
from pipeline.decode import Hypothesis, greedy_search, sample_search
from pipeline.errors import ConfigError, DataError
from pipeline.images import Transform
from pipeline.metrics import DocumentFrequencies, References, cider_reward
from pipeline.models.captioner import Captioner, Encoder, Layout
from pipeline.models.gpt import GPTDecoder
from pipeline.models.lstm import LSTMDecoder
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import search_limits
from pipeline.text import Tokenizer
from pipeline.train.collapse import CollapseGuard
from pipeline.train.loss import caption_loss
from pipeline.train.self_critical import SelfCritical, advantages

PICTURES = [(colour, thing) for colour in ("red", "green", "blue") for thing in ("dog", "cat")]
CAPTIONS = [
    [f"a {colour} {thing} sits on the grass", f"the {colour} {thing} is on some grass"]
    for colour, thing in PICTURES
]
TEXTS = [text for group in CAPTIONS for text in group]
TOKENIZER = Tokenizer.train(TEXTS)
REFERENCES = References(CAPTIONS, end_token=True)
FEATURES = torch.eye(len(PICTURES), 8)[:, None]
ROWS = list(range(len(PICTURES)))
LIMITS = search_limits(TOKENIZER, GenerationConfig(max_len=16))


class Given(Encoder):
    """Pictures that are their own features."""

    width, layout = 8, Layout(0, 1, 1)

    def features(self, images):
        return images

    def memory(self, features):
        return features


@pytest.fixture(params=["lstm", "gpt"])
def model(request):
    return build(request.param)


def build(kind, dropout=0.1):
    torch.manual_seed(1)
    sizes = (8, Layout(0, 1, 1), len(TOKENIZER))
    if kind == "lstm":
        decoder = LSTMDecoder(*sizes, width=48, embedding=32, attention=8, dropout=dropout)
    else:
        decoder = GPTDecoder(*sizes, width=32, layers=2, heads=2, positions=20, dropout=dropout)
    return Captioner(Given(), decoder)


def trainer(model, limits=LIMITS, **settings) -> SelfCritical:
    chosen = SelfCriticalConfig.model_validate(settings)
    references = [ids[1:] for ids in TOKENIZER.encode(TEXTS)]
    guard = CollapseGuard(chosen.guard, references, TOKENIZER.eos)
    frequencies = REFERENCES.document_frequencies
    return SelfCritical(model, TOKENIZER, REFERENCES, frequencies, chosen, limits, guard, seed=3)


def teach_language(model, steps):
    """Every caption for every picture: it can write, and does not look."""
    rows = [torch.tensor(ids) for ids in TOKENIZER.encode(TEXTS)]
    captions = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    real = (captions >= 0).expand(len(ROWS), -1, -1)
    captions = captions.clamp(min=0).expand(len(ROWS), -1, -1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        caption_loss(model, model.memory(FEATURES), captions, real).total.backward()
        optimiser.step()


@torch.inference_mode()
def greedy_cider(model) -> float:
    model.eval()
    said = greedy_search(model, model.memory(FEATURES), LIMITS)
    texts = [TOKENIZER.decode(group[0].tokens) for group in said]
    ended = [group[0].tokens[-1] == TOKENIZER.eos for group in said]
    frequencies = REFERENCES.document_frequencies
    return float(100 * cider_reward(REFERENCES, ROWS, texts, frequencies, ended).mean())


def test_the_mean_of_the_others_in_plain_arithmetic():
    rewards = np.random.default_rng(0).random((4, 5))
    gains = advantages(rewards)
    for picture, row in enumerate(rewards.tolist()):
        for i, reward in enumerate(row):
            others = mean(other for j, other in enumerate(row) if j != i)
            assert gains[picture, i] == pytest.approx(reward - others)
    greedy = np.array([0.1, 0.2, 0.3, 0.4])
    assert advantages(rewards, greedy)[2, 1] == pytest.approx(rewards[2, 1] - 0.3)


@pytest.mark.parametrize("reward", [0.1, 1 / 3, 7.77])
@pytest.mark.parametrize("samples", [2, 3, 5, 7])
def test_equal_rewards_give_exactly_no_advantage(reward, samples):
    assert (advantages(np.full((3, samples), reward)) == 0).all()


def test_a_batch_of_ties_moves_nothing(model, monkeypatch):
    phase = trainer(model)
    monkeypatch.setattr(phase, "reward", lambda rows, said: np.full((len(said), len(said[0])), 0.7))
    outcome = phase.step(FEATURES, ROWS, 0)
    outcome.loss.backward()
    assert all(not p.grad.any() for p in model.parameters() if p.grad is not None)
    assert outcome.figures["advantage_std"] == 0
    assert outcome.figures["reward"] == outcome.figures["baseline"] == pytest.approx(70)


@pytest.mark.parametrize("baseline", ["mean_of_others", "greedy"])
def test_the_loss_is_the_formula_token_by_token(model, baseline):
    """From the search's own log-probabilities: drawing and gradient see one distribution."""
    phase = trainer(model, baseline=baseline, samples=3)
    outcome = phase.step(FEATURES, ROWS, 4)
    model.eval()
    memory = model.memory(FEATURES)
    drawn = phase.draw(memory, ROWS, 4)
    frequencies = REFERENCES.document_frequencies
    total = 0.0
    for row, group in enumerate(drawn):
        rewards = [
            float(
                cider_reward(
                    REFERENCES,
                    [row],
                    [TOKENIZER.decode(said.tokens)],
                    frequencies,
                    [said.tokens[-1] == TOKENIZER.eos],
                )[0]
            )
            for said in group
        ]
        best = greedy_search(model, memory, LIMITS)[row]
        greedy = float(phase.reward([row], [best])[0, 0])
        for i, said in enumerate(group):
            others = mean(reward for j, reward in enumerate(rewards) if j != i)
            gain = rewards[i] - (greedy if baseline == "greedy" else others)
            captions, real = phase._padded([[said]], memory.tokens_BSD.device)
            alone = memory.select(torch.tensor([row]))
            total -= gain * phase.log_probabilities(alone, captions, real).sum().item()
    length = mean(len(ids) - 1 for ids in TOKENIZER.encode(TEXTS))
    captions_drawn = 3 * len(ROWS)
    assert outcome.loss.item() == pytest.approx(total / (captions_drawn * length), abs=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_gradient_is_of_the_distribution_that_was_drawn_from(model, temperature):
    """Drawn so often that frequencies show: banned tokens, least length and temperature count."""
    short = replace(LIMITS, max_len=2, min_len=1)
    phase = trainer(model, short, temperature=temperature)
    model.eval()
    memory = model.memory(FEATURES[:1])
    groups = sample_search(model, memory, short, phase.sampling, candidates=4000)
    first = torch.tensor([said.tokens[0] for said in groups[0]])
    counted = torch.bincount(first, minlength=len(TOKENIZER)) / 4000
    every = [(Hypothesis((token,), (0.0,)),) for token in range(len(TOKENIZER))]
    captions, real = phase._padded([[said for (said,) in every]], memory.tokens_BSD.device)
    chances = phase.log_probabilities(memory, captions, real).exp()
    assert float(chances.detach().sum()) == pytest.approx(1, abs=1e-5)
    assert chances[[*LIMITS.banned, TOKENIZER.eos]].tolist() == [0.0] * (len(LIMITS.banned) + 1)
    assert float((counted - chances.detach()).abs().max()) < 0.03


def test_the_better_caption_becomes_likelier_and_the_worse_less_likely(model):
    phase = trainer(model)
    model.eval()
    ids = TOKENIZER.encode([CAPTIONS[0][0], "the blue cat the blue cat"])
    pair = [[Hypothesis(tuple(row[1:]), (0.0,) * (len(row) - 1)) for row in ids]]
    rewards = phase.reward([0], pair)
    assert rewards[0, 0] > rewards[0, 1] + 1

    def log():
        memory = model.memory(FEATURES[:1])
        captions, real = phase._padded(pair, memory.tokens_BSD.device)
        values = phase.log_probabilities(memory, captions, real)
        return [
            float(part.sum()) for part in values.detach().split([len(s.tokens) for s in pair[0]])
        ]

    before = log()
    loss = phase.loss(model.memory(FEATURES[:1]), pair, advantages(rewards))
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    after = log()
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_the_end_token_earns_reward_and_is_learned(model):
    phase = trainer(model)
    whole = TOKENIZER.encode([CAPTIONS[0][0]])[0][1:]
    said = [[Hypothesis(tuple(ids), ()) for ids in (whole, whole[:-1], whole[:-2])]]
    with_end, without, cut = phase.reward([0], said)[0]
    assert with_end > without > cut
    # Its log-probability is in the loss: the last of the caption's tokens.
    model.eval()
    memory = model.memory(FEATURES[:1])
    captions, real = phase._padded(said, memory.tokens_BSD.device)
    assert real.sum(-1).tolist() == [[len(whole), len(whole) - 1, len(whole) - 2]]
    values = phase.log_probabilities(memory, captions, real)
    logits = model.teach(memory, captions[:, :1, :-1], real[:, :1]).logits_MV[-1]
    logits[list(LIMITS.banned)] = -torch.inf
    end = logits.log_softmax(-1)[TOKENIZER.eos]
    assert values[len(whole) - 1].item() == pytest.approx(end.item(), abs=1e-5)
    plain = References(CAPTIONS)
    with pytest.raises(AssertionError, match="end token"):
        SelfCritical(
            model,
            TOKENIZER,
            plain,
            plain.document_frequencies,
            phase.settings,
            LIMITS,
            phase.guard,
            seed=0,
        )


@pytest.mark.parametrize("baseline", ["mean_of_others", "greedy"])
def test_captions_get_better(model, baseline):
    teach_language(model, 80)
    before = greedy_cider(model)
    phase = trainer(model, baseline=baseline, samples=16, guard={"window": 500})
    optimiser = torch.optim.Adam(model.parameters())
    rewards = []
    for epoch in range(100):
        optimiser.param_groups[0]["lr"] = 0.004 * min(1, (epoch + 1) / 30)
        outcome = phase.step(FEATURES, ROWS, epoch)
        assert phase.guard.watch(outcome.drawn) is None, "it gets better, which is no collapse"
        optimiser.zero_grad()
        outcome.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimiser.step()
        rewards.append(outcome.figures["reward"])
    assert mean(rewards[-5:]) > 1.5 * mean(rewards[:5])
    assert greedy_cider(model) > 1.5 * before


def run(model, optimiser, phase, epochs):
    for epoch in epochs:
        for rows in (ROWS[:4], ROWS[4:]):
            outcome = phase.step(FEATURES[rows], rows, epoch)
            optimiser.zero_grad()
            outcome.loss.backward()
            optimiser.step()
            phase.guard.watch(outcome.drawn)


@pytest.mark.parametrize("kind", ["lstm", "gpt"])
def test_started_again_it_ends_with_the_same_bytes(kind):
    """Drawing needs no random state but the position; the guard's window goes along."""
    ends = []
    for stops in ([], [1, 3]):
        model = build(kind)
        optimiser, phase, done = torch.optim.Adam(model.parameters()), trainer(model), 0
        for stop in [*stops, 5]:
            run(model, optimiser, phase, range(done, stop))
            done, guard = stop, phase.guard.state()
            states = model.state_dict(), optimiser.state_dict()
            torch.manual_seed(stop)  # another process has other random numbers
            model = build(kind)
            model.load_state_dict(states[0])
            optimiser = torch.optim.Adam(model.parameters())
            optimiser.load_state_dict(states[1])
            phase = trainer(model)
            phase.guard.restore(guard)
        ends.append((model.state_dict(), phase.guard.state()))
    (whole, watched), (cut, watched_again) = ends
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert watched == watched_again


def test_a_picture_draws_the_same_in_any_batch_and_anew_each_epoch(model):
    phase = trainer(model)
    model.eval()
    together = phase.draw(model.memory(FEATURES), ROWS, 1)
    alone = phase.draw(model.memory(FEATURES[3:4]), [3], 1)
    assert [said.tokens for said in alone[0]] == [said.tokens for said in together[3]]
    assert phase.draw(model.memory(FEATURES), ROWS, 2) != together
    assert phase.draw(model.memory(FEATURES), ROWS, 1) == together


def test_a_collapsed_model_is_noticed_and_a_healthy_one_is_not(model):
    teach_language(model, 60)
    healthy = trainer(model, guard={"window": 30})
    assert healthy.guard.watch(healthy.step(FEATURES, ROWS, 0).drawn) is None
    word = TOKENIZER.encode(["grass"])[0][1]
    with torch.no_grad():  # one word, over and over
        if isinstance(model.decoder, LSTMDecoder):
            model.decoder.out_bias[word] += 50
        else:
            model.decoder.norm.bias += 50 * model.decoder.embed.weight[word]
    broken = trainer(model, guard={"window": 30})
    verdict = broken.guard.watch(broken.step(FEATURES, ROWS, 0).drawn)
    assert verdict is not None
    assert "0% of them come to their end" in verdict
    assert "of their token pairs are repeats" in verdict


def test_dropout_is_off_unless_asked_for(model):
    model.train()
    losses = {trainer(model).step(FEATURES, ROWS, 0).loss.item() for _ in range(2)}
    assert len(losses) == 1
    noisy = {trainer(model, dropout=True).step(FEATURES, ROWS, 0).loss.item() for _ in range(3)}
    assert len(noisy) == 3


def test_the_gradients_of_a_batchs_parts_add_up(model):
    phase = trainer(model)
    phase.step(FEATURES, ROWS, 0).loss.backward()
    whole = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for rows in (ROWS[:1], ROWS[1:]):
        phase.step(FEATURES[rows], rows, 0, pictures=len(ROWS)).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, whole[name], atol=1e-6, rtol=1e-4)


def test_rewards_come_from_the_stored_table(model, tmp_path):
    saved = SavedCaptioner(model, TOKENIZER, Transform(), GenerationConfig(max_len=16), {})
    settings = TrainConfig(self_critical=SelfCriticalConfig(), seed=3)
    table = tmp_path / "table.parquet"
    phase = SelfCritical.of(saved, CAPTIONS, settings, table)
    stored = DocumentFrequencies.load(table, end_token=True)
    assert stored.fingerprint == REFERENCES.document_frequencies.fingerprint
    plain, made = trainer(model).step(FEATURES, ROWS, 0), phase.step(FEATURES, ROWS, 0)
    assert made.loss.item() == plain.loss.item(), "the settings, limits, guard and seed arrive"
    # A table that says otherwise counts: it is read, not counted anew.
    every = [CAPTIONS[0] for _ in range(9)]
    References(every, end_token=True).document_frequencies.save(table)
    other = SelfCritical.of(saved, CAPTIONS, settings, table).step(FEATURES, ROWS, 0)
    assert other.figures["reward"] != made.figures["reward"]
    table.write_bytes(b"no table")
    with pytest.raises(DataError, match=r"table\.parquet"):
        SelfCritical.of(saved, CAPTIONS, settings, table)


def test_the_log_says_what_happened(model):
    figures = trainer(model, samples=4).step(FEATURES, ROWS, 0).figures
    assert 0 <= figures["ended"] <= 1
    assert 0 <= figures["repeats"] <= 1
    assert 1 <= figures["sample_tokens"] <= 16
    assert all(math.isfinite(value) for value in figures.values())


def test_settings():
    assert load_config(None, []).train.self_critical is None
    chosen = load_config(None, ["train.self_critical.epochs=3"]).train.self_critical
    assert (chosen.epochs, chosen.samples, chosen.guard) == (3, 5, GuardConfig())
    with pytest.raises(ConfigError, match="mean_of_others needs 2 or more"):
        load_config(None, ["train.self_critical.samples=1"])
    with pytest.raises(ConfigError, match=r"did you mean train\.self_critical\.baseline"):
        load_config(None, ["train.self_critical.base_line=greedy"])
    with pytest.raises(ValidationError, match="min_length"):
        GuardConfig(min_length=2, max_length=1)
