"""What every decoder of the table promises: stepping is teaching, and a picture is alone."""

from __future__ import annotations

import pytest
import torch

from pipeline.decode import Limits, Sampling, search
from pipeline.models.build import DECODERS
from pipeline.models.captioner import Captioner, Encoder, Layout

VOCABULARY, CHANNELS, LAYOUT = 30, 12, Layout(1, 2, 3)
SETTINGS = {
    "lstm": {"width": 24, "embedding": 16, "attention": 12, "dropout": 0.3},
    "gpt": {"width": 16, "layers": 3, "heads": 4, "positions": 12, "dropout": 0.3},
    "bert": {"width": 16, "layers": 2, "heads": 4, "positions": 12},
}


class Given(Encoder):
    """Tokens as pictures."""

    width, layout = CHANNELS, LAYOUT

    def features(self, images):
        return images

    def memory(self, features):
        return features


@pytest.fixture(params=sorted(DECODERS))
def model(request) -> Captioner:
    torch.manual_seed(1)
    decoder = DECODERS[request.param](CHANNELS, LAYOUT, VOCABULARY, **SETTINGS[request.param])
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5 if name.startswith("embed") else 0.3)
    return Captioner(Given(), decoder).eval()


@pytest.mark.parametrize("width", [1, 2, 3])
@torch.no_grad()
def test_stepping_equals_teaching(model, width):
    memory = model.memory(torch.randn(3, LAYOUT.tokens, CHANNELS))
    captions = torch.randint(0, VOCABULARY, (3, width, 7))
    every = torch.ones_like(captions, dtype=torch.bool)
    teaching = model.teach(memory, captions, every, attention=True)
    logits_BCTV = teaching.logits_MV.view(3, width, 7, VOCABULARY)
    attention_BCTS = teaching.attention_MS.view(3, width, 7, -1)
    torch.testing.assert_close(attention_BCTS.sum(-1), torch.ones(3, width, 7))
    assert model.teach(memory, captions, every).attention_MS is None
    state = model.init_state(memory, width, 7)
    for step in range(7):
        logits, state = model.step(captions[:, :, step].flatten(), state, attention=step % 2 == 0)
        torch.testing.assert_close(
            logits, logits_BCTV[:, :, step].flatten(0, 1), atol=2e-5, rtol=2e-5
        )
        if step % 2 == 0:
            look = attention_BCTS[:, :, step].flatten(0, 1)
            torch.testing.assert_close(state.attention, look, atol=1e-5, rtol=1e-5)
        else:
            assert state.attention is None


@torch.no_grad()
def test_stepping_equals_teaching_when_beams_move_and_pictures_leave(model):
    memory = model.memory(torch.randn(4, LAYOUT.tokens, CHANNELS))
    generator = torch.Generator().manual_seed(2)
    state, width, here = model.init_state(memory, 3, 8), 3, torch.arange(4)
    history = torch.zeros((12, 0), dtype=torch.long)
    for step in range(8):
        tokens = torch.randint(0, VOCABULARY, (len(history),), generator=generator)
        history = torch.cat([history, tokens[:, None]], 1)
        logits, state = model.step(tokens, state)
        captions = history.view(len(here), width, -1)
        at = torch.zeros_like(captions, dtype=torch.bool)
        at[:, :, -1] = True
        expected = model.teach(memory.select(here), captions, at).logits_MV
        torch.testing.assert_close(logits, expected, atol=2e-5, rtol=2e-5)
        kept = torch.tensor([0, 2, 3]) if step == 3 else torch.arange(len(here))
        parents = torch.randint(0, width, (len(kept), width), generator=generator)
        rows = (kept[:, None] * width + parents).flatten()
        here, history, state = here[kept], history[rows], state.select(rows)


@torch.no_grad()
def test_only_the_positions_asked_for_are_projected(model):
    memory = model.memory(torch.randn(2, LAYOUT.tokens, CHANNELS))
    captions = torch.randint(4, VOCABULARY, (2, 3, 5))
    at = torch.rand(2, 3, 5) > 0.4
    at[0, 2] = False
    at[:, 1, 3:] = False
    every = model.teach(memory, captions, torch.ones_like(at), attention=True)
    some = model.teach(memory, captions, at, attention=True)
    kept = at.flatten()
    torch.testing.assert_close(some.logits_MV, every.logits_MV[kept], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(some.attention_MS, every.attention_MS[kept], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "how",
    [{"beam": 1}, {"beam": 3}, {"beam": 5, "candidates": 2}, {"beam": 1, "sampling": Sampling()}],
    ids=["greedy", "beam 3", "beam 5", "sampling"],
)
@torch.no_grad()
def test_a_caption_depends_neither_on_neighbours_nor_on_the_batch_size(model, how, record_property):
    pictures = torch.randn(24, LAYOUT.tokens, CHANNELS)
    limits = Limits(1, 2, 0, banned=(0, 1), max_len=12, ngram_block=1)

    def found(batch: int):
        out = []
        for start in range(0, len(pictures), batch):
            memory = model.memory(pictures[start : start + batch])
            here = range(start, start + len(memory.tokens_BSD))
            names = {"keys": here} if "sampling" in how else {}
            out += search(model, memory, limits, **how, **names)
        return out

    whole = found(24)
    assert len({len(h[0].tokens) for h in whole}) > 1, "captions should differ in length"
    ties = []
    for batch in (1, 7):
        for place, (one, other) in enumerate(zip(whole, found(batch), strict=True)):
            assert [h.score for h in one] == pytest.approx([h.score for h in other], abs=1e-5)
            if [h.tokens for h in one] != [h.tokens for h in other]:
                ties.append((batch, place))  # equal scores, so a tie closer than 1e-5
    record_property("ties", ties)
    assert ties == [], f"(batch size, picture) whose captions differ at a tie: {ties}"
