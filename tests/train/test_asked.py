"""Steps ask for few different numbers of places, and their losses are those of the words alone."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipeline.models.build import build
from pipeline.train import asked
from pipeline.train.asked import asked_places
from pipeline.train.loss import caption_loss

DECODERS = {
    "gpt": {"kind": "gpt", "width": 16, "layers": 1, "heads": 2, "dropout": 0.0},
    "lstm": {"kind": "lstm", "width": 16, "embedding": 16, "attention": 8, "dropout": 0.0},
}


def real_places(*lengths: int, steps: int) -> torch.Tensor:
    """[B, 2, T]: captions of so many tokens, two a picture."""
    return (torch.arange(steps) < torch.tensor(lengths)[:, None]).unflatten(0, (-1, 2))


@pytest.mark.parametrize(
    ("words", "all_asked"), [(1, 64), (63, 64), (64, 64), (65, 128), (100, 128)]
)
def test_a_multiple_of_places_is_asked_for(words: int, all_asked: int) -> None:
    real = real_places(*[words // 4] * 3, words - 3 * (words // 4), steps=40)
    found, tokens = asked_places(real)
    assert (int(found.sum()), tokens) == (all_asked, words)
    assert bool(found[real].all()), "every word is among them"


def test_early_padding_is_taken_first() -> None:
    real = real_places(20, 3, 12, 25, steps=26)
    added = asked_places(real)[0] & ~real
    assert added.nonzero()[:, 2].tolist() == [3, 4, 5, 6], "60 words, then the shortest caption's"


def test_where_there_is_no_more_padding_there_is_no_more_to_ask() -> None:
    real = real_places(5, 5, 4, 5, steps=5)
    assert bool(asked_places(real)[0].all())
    full = real_places(5, 5, steps=5)
    assert torch.equal(asked_places(full)[0], full)


@pytest.mark.parametrize("kind", DECODERS)
def test_the_loss_and_its_gradients_are_those_of_the_words(kind: str, monkeypatch) -> None:
    torch.manual_seed(0)
    encoder = {"name": "resnet18", "train": "none"}
    architecture = {"encoder": encoder, "decoder": DECODERS[kind], "vocabulary": 9, "size": 32}
    model = build(architecture).eval()
    features = model.features(torch.randn(2, 3, 32, 32))
    real = real_places(9, 4, 7, 2, steps=9)
    captions = torch.randint(3, 9, real.shape)
    penalty = 1.0 if kind == "lstm" else 0.0

    def trained() -> tuple[float, float, list[torch.Tensor]]:
        model.zero_grad()
        loss = caption_loss(
            model,
            model.memory(features),
            captions,
            real,
            label_smoothing=0.1,
            attention_penalty=penalty,
        )
        loss.total.backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        return float(loss.entropy_sum), float(loss.total.detach()), gradients

    rounded = trained()
    monkeypatch.setattr(asked, "MULTIPLE", 1)
    plain = trained()
    assert rounded[:2] == pytest.approx(plain[:2], abs=1e-5)
    for ours, expected in zip(rounded[2], plain[2], strict=True):
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)
    logits = model.teach(model.memory(features), captions[..., :-1], real[..., 1:]).logits_MV
    by_hand = F.cross_entropy(
        logits, captions[..., 1:][real[..., 1:]], label_smoothing=0.1, reduction="sum"
    )
    assert rounded[0] == pytest.approx(float(by_hand.detach()), abs=1e-5)
