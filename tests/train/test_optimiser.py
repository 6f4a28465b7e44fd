"""What decays, at which rate."""

from __future__ import annotations

import pytest

from pipeline.config import load_config
from pipeline.models.build import build
from pipeline.train.optimiser import build_optimiser, learning_rates, set_learning_rate

GPT = {"kind": "gpt", "width": 16, "layers": 1, "heads": 2}
LSTM = {"kind": "lstm", "width": 16, "embedding": 16, "attention": 8, "dropout": 0.0}
VIT = {"name": "vit", "train": "all", "patch": 8, "depth": 1, "width": 16, "heads": 2, "mlp": 32}
CNN = {"name": "resnet18", "train": 1}


def optimiser(encoder, decoder, decay):
    architecture = {"encoder": encoder, "decoder": decoder, "vocabulary": 9, "size": 32}
    model = build(architecture)
    config = load_config(None, [f"train.weight_decay={decay}", "train.warmup_steps=0"]).train
    return model, build_optimiser(model, config)


@pytest.mark.parametrize(("encoder", "decoder"), [(VIT, GPT), (CNN, LSTM)])
def test_matrices_decay_and_nothing_else(encoder, decoder):
    model, built = optimiser(encoder, decoder, 0.1)
    decays = {id(p): g["weight_decay"] for g in built.param_groups for p in g["params"]}
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert sorted(decays) == sorted(id(p) for p in trained.values()), "each once"
    for name, parameter in trained.items():
        free = parameter.ndim < 2 or any(
            part in name for part in ("embed.", "position", "place", "prefix")
        )
        assert decays[id(parameter)] == (0.0 if free else 0.1), name


def test_without_decay_everything_is_still_trained():
    model, built = optimiser(VIT, GPT, 0.0)
    count = sum(len(group["params"]) for group in built.param_groups)
    assert count == len(list(model.parameters()))


def test_the_encoder_has_a_rate_of_its_own():
    model, built = optimiser(VIT, GPT, 0.1)
    set_learning_rate(built, 0.5)
    encoder = {id(p) for p in model.encoder.parameters()}
    for group in built.param_groups:
        theirs = id(group["params"][0]) in encoder
        assert group["lr"] == pytest.approx(0.5e-4 if theirs else 2.5e-4)
    assert learning_rates(built) == {
        "learning_rate_decoder": pytest.approx(2.5e-4),
        "learning_rate_encoder": pytest.approx(0.5e-4),
    }
