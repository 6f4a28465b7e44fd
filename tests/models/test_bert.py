"""The BERT-style decoder behind the interface: stepping, beams, attention, lengths."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models.bert import BertDecoder
from pipeline.models.captioner import Layout

PICTURES, CAPTIONS, STEPS, VOCABULARY, CHANNELS = 3, 2, 7, 19, 12
LAYOUT = Layout(1, 2, 3)


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(2)
    made = BertDecoder(
        CHANNELS, LAYOUT, VOCABULARY, width=16, layers=2, heads=4, mlp=24, positions=STEPS
    )
    for value in made.parameters():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=0.5)
    return made.eval()


@pytest.fixture
def memory(decoder):
    torch.manual_seed(3)
    return decoder.remember(torch.randn(PICTURES, LAYOUT.tokens, CHANNELS))


@torch.no_grad()
def test_stepping_equals_teaching_and_so_does_its_attention(decoder, memory):
    captions = torch.randint(0, VOCABULARY, (PICTURES, CAPTIONS, STEPS))
    at = torch.rand(captions.shape) > 0.3
    taught = decoder.teach(memory, captions, at, attention=True)
    state, logits, looks = decoder.init_state(memory, CAPTIONS, STEPS), [], []
    for place in range(STEPS):
        found, state = decoder.step(captions[:, :, place].flatten(), state, True)
        logits.append(found.view(PICTURES, CAPTIONS, -1))
        looks.append(state.attention.view(PICTURES, CAPTIONS, -1))
    torch.testing.assert_close(taught.logits_MV, torch.stack(logits, 2)[at], atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(taught.attention_MS, torch.stack(looks, 2)[at])
    torch.testing.assert_close(taught.attention_MS.sum(1), torch.ones(int(at.sum())))
    assert taught.attention_MS.shape[1] == LAYOUT.tokens
    assert decoder.teach(memory, captions, at).attention_MS is None
    assert (
        decoder.step(captions[:, :, 0].flatten(), decoder.init_state(memory, CAPTIONS, 1), False)[
            1
        ].attention
        is None
    )


@torch.no_grad()
def test_beams_that_move_and_pictures_that_leave_carry_their_past(decoder, memory):
    captions = torch.randint(0, VOCABULARY, (PICTURES, CAPTIONS, STEPS))
    state = decoder.init_state(memory, CAPTIONS, STEPS)
    for place in range(3):
        _, state = decoder.step(captions[:, :, place].flatten(), state, False)
    # Picture 1 leaves; picture 0's beams both go on from its second, picture 2's change places.
    rows = torch.tensor([1, 1, 5, 4])
    moved = torch.stack([captions[0, [1, 1]], captions[2, [1, 0]]])
    state = state.select(rows)
    logits, _ = decoder.step(moved[:, :, 3].flatten(), state, False)
    at = torch.zeros_like(moved, dtype=torch.bool)
    at[:, :, 3] = True
    taught = decoder.teach(memory.select(torch.tensor([0, 2])), moved, at)
    torch.testing.assert_close(logits, taught.logits_MV, atol=2e-5, rtol=1e-5)


def test_a_position_sees_its_own_prefix_alone(decoder, memory):
    captions = torch.randint(0, VOCABULARY, (PICTURES, CAPTIONS, STEPS))
    at = torch.zeros_like(captions, dtype=torch.bool)
    at[:, :, :4] = True
    before = decoder.teach(memory, captions, at).logits_MV
    captions[:, :, 4:] = 0
    torch.testing.assert_close(decoder.teach(memory, captions, at).logits_MV, before)


def test_settings_that_cannot_be(decoder, memory):
    with pytest.raises(ConfigError, match="heads = 3 do not divide width = 16"):
        BertDecoder(CHANNELS, LAYOUT, VOCABULARY, width=16, heads=3)
    with pytest.raises(ConfigError, match=f"{STEPS + 1} tokens: the decoder has {STEPS} positions"):
        decoder.init_state(memory, 1, STEPS + 1)
    longer = torch.zeros(PICTURES, 1, STEPS + 1, dtype=torch.long)
    with pytest.raises(ConfigError, match="lower max_len"):
        decoder.teach(memory, longer, longer == 0)
