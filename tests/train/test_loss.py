"""The loss counts words, whatever stands in the padding."""

from __future__ import annotations

import math
import random

import pytest
import torch

from pipeline.models.build import build
from pipeline.models.lstm import LSTMDecoder
from pipeline.text import Tokenizer
from pipeline.train.captions import EncodedCaptions
from pipeline.train.loss import caption_loss

DECODERS = [
    {"kind": "gpt", "width": 16, "layers": 1, "heads": 2, "dropout": 0.0},
    {"kind": "lstm", "width": 16, "embedding": 16, "attention": 8, "dropout": 0.0},
]


@pytest.fixture(params=DECODERS, ids=["gpt", "lstm"])
def model(request):
    torch.manual_seed(0)
    encoder = {"name": "resnet18", "train": "none"}
    architecture = {"encoder": encoder, "decoder": request.param, "vocabulary": 9, "size": 32}
    return build(architecture)


def batch(pad):
    captions = torch.tensor([[[1, 5, 6, 7, 2], [1, 5, 2, pad, pad]], [[1, 4, 2, pad, pad]] * 2])
    real = torch.tensor([[[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], [[1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]])
    return captions, real.bool()


def test_padding_counts_for_nothing_even_as_the_end_token(model):
    memory = model.memory(model.features(torch.randn(2, 3, 32, 32)))
    losses = [caption_loss(model, memory, *batch(pad)) for pad in (0, 2, 8)]
    assert [loss.words for loss in losses] == [8, 8, 8]
    assert losses[0].cross_entropy == pytest.approx(losses[1].cross_entropy, abs=1e-6)
    assert losses[0].cross_entropy == pytest.approx(losses[2].cross_entropy, abs=1e-6)
    assert losses[0].cross_entropy == pytest.approx(math.log(9), abs=1), "about uniform at first"


def test_attention_is_computed_only_for_the_penalty(model, monkeypatch):
    memory = model.memory(model.features(torch.randn(2, 3, 32, 32)))
    asked = []
    teach = model.decoder.teach

    def spy(memory, captions, at, attention=False):
        asked.append(attention)
        return teach(memory, captions, at, attention)

    monkeypatch.setattr(model.decoder, "teach", spy)
    plain = caption_loss(model, memory, *batch(0))
    penalised = caption_loss(model, memory, *batch(0), attention_penalty=1.0)
    assert asked == [False, True]
    assert penalised.cross_entropy == pytest.approx(plain.cross_entropy, abs=1e-6)
    assert float(penalised.total.detach()) > penalised.cross_entropy


def test_captions_say_where_they_are_padded():
    tokenizer = Tokenizer.train_bpe(["a dog", "a"])
    tokenizer.pad = tokenizer.eos
    encoded = EncodedCaptions([["a", "a dog"], ["a"]], tokenizer, 9)
    chooser = random.Random(0)
    captions, real = encoded.padded([encoded.choose(n, 5, chooser) for n in (0, 1)])
    long, short = (len(ids) for ids in tokenizer.encode(["a dog", "a"]))
    assert real.sum(-1).tolist() == [[long, short], [short, 0]], "the longest first"
    assert (captions[~real] == tokenizer.pad).all()


def test_the_pieces_of_a_batch_add_up_to_it(model):
    penalty = 1.0 if isinstance(model.decoder, LSTMDecoder) else 0.0
    memory = model.memory(model.features(torch.randn(2, 3, 32, 32)))
    captions, real = batch(0)
    options = {"attention_penalty": penalty, "label_smoothing": 0.1}
    whole = caption_loss(model, memory, captions, real, **options)
    pieces = [
        caption_loss(
            model,
            memory.select(torch.tensor([n])),
            captions[n : n + 1],
            real[n : n + 1],
            words=8,
            captions=3,
            **options,
        )
        for n in (0, 1)
    ]
    total = float(sum(p.total.detach() for p in pieces))
    assert total == pytest.approx(float(whole.total.detach()), abs=1e-5)
    assert sum(p.words for p in pieces) == whole.words == 8
