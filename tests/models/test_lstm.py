"""The LSTM decoder: stepping is teaching, beams share a picture's memory, attention is one."""

from __future__ import annotations

import torch

from pipeline.models.build import build
from pipeline.models.captioner import Captioner

VOCABULARY = 20


def tiny(seed: int = 0) -> Captioner:
    torch.manual_seed(seed)
    architecture = {
        "encoder": {"name": "resnet18", "train": "all"},
        "decoder": {"kind": "lstm", "width": 24, "embedding": 16, "attention": 12, "dropout": 0.3},
        "vocabulary": VOCABULARY,
        "size": 64,
    }
    return build(architecture).eval()


def test_stepping_equals_teaching():
    model = tiny()
    memory = model.memory(model.features(torch.randn(3, 3, 64, 64)))
    captions = torch.randint(4, VOCABULARY, (3, 2, 7))
    teaching = model.teach(
        memory, captions, torch.ones_like(captions, dtype=torch.bool), attention=True
    )
    logits_BCTV = teaching.logits_MV.view(3, 2, 7, VOCABULARY)
    attention_BCTS = teaching.attention_MS.view(3, 2, 7, -1)
    state = model.init_state(memory, 2, 7)
    for step in range(7):
        logits, state = model.step(captions[:, :, step].flatten(), state, attention=True)
        torch.testing.assert_close(logits, logits_BCTV[:, :, step].flatten(0, 1))
        torch.testing.assert_close(state.attention, attention_BCTS[:, :, step].flatten(0, 1))


def test_only_the_positions_asked_for_are_projected():
    model = tiny()
    memory = model.memory(model.features(torch.randn(2, 3, 64, 64)))
    captions = torch.randint(4, VOCABULARY, (2, 3, 5))
    at = torch.rand(2, 3, 5) > 0.4
    at[0, 2] = False
    at[:, 1, 3:] = False
    every = model.teach(memory, captions, torch.ones_like(at), attention=True)
    some = model.teach(memory, captions, at, attention=True)
    torch.testing.assert_close(some.logits_MV, every.logits_MV[at.flatten()])
    torch.testing.assert_close(some.attention_MS, every.attention_MS[at.flatten()])


def test_a_caption_depends_on_its_picture_alone():
    model = tiny()
    images = torch.randn(3, 3, 64, 64)
    captions = torch.randint(4, VOCABULARY, (3, 1, 6))
    every = torch.ones_like(captions, dtype=torch.bool)
    together = model.teach(model.memory(model.features(images)), captions, every).logits_MV
    alone = model.teach(model.memory(model.features(images[1:2])), captions[1:2], every[1:2])
    torch.testing.assert_close(alone.logits_MV, together[6:12], atol=1e-5, rtol=1e-5)


def test_beams_move_without_copying_the_memory_and_finished_pictures_leave():
    model = tiny()
    memory = model.memory(model.features(torch.randn(3, 3, 64, 64)))
    state = model.init_state(memory, 2, 7)
    _, state = model.step(torch.tensor([4, 5, 6, 7, 8, 9]), state)
    swapped = state.select(torch.tensor([1, 0, 2, 3, 5, 5]))
    assert swapped.memory.tokens_BSD.data_ptr() == memory.tokens_BSD.data_ptr()
    torch.testing.assert_close(swapped.h[0], state.h[1])
    left = state.select(torch.tensor([0, 1, 5, 4]))
    torch.testing.assert_close(left.memory.tokens_BSD, memory.tokens_BSD[[0, 2]])
    logits, _ = model.step(torch.tensor([4, 4, 4, 4]), left)
    full, _ = model.step(torch.tensor([4, 4, 4, 4, 4, 4]), state)
    torch.testing.assert_close(logits, full[[0, 1, 5, 4]])


def test_attention_is_a_distribution_over_places():
    model = tiny()
    memory = model.memory(model.features(torch.randn(2, 3, 64, 64)))
    captions = torch.randint(4, VOCABULARY, (2, 1, 4))
    every = torch.ones_like(captions, dtype=torch.bool)
    assert model.teach(memory, captions, every).attention_MS is None
    looks = model.teach(memory, captions, every, attention=True).attention_MS
    torch.testing.assert_close(looks.sum(-1), torch.ones(8))
