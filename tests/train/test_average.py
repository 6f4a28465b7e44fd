"""Averages of weights."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.build import build
from pipeline.train.average import MovingAverage, mean_of

ARCHITECTURE = {
    "encoder": {"name": "resnet18", "train": 1},
    "decoder": {"kind": "gpt", "width": 16, "layers": 1, "heads": 2},
    "vocabulary": 9,
    "size": 32,
}


def test_a_moving_average_follows_its_formula_and_gives_the_weights_back():
    torch.manual_seed(0)
    model = build(ARCHITECTURE)
    average = MovingAverage(model, 0.5)
    name, parameter = next((n, p) for n, p in model.named_parameters() if p.requires_grad)
    expected = parameter.detach().clone()
    for step in range(8):
        with torch.no_grad():
            parameter.add_(1.0)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach()
    own = parameter.detach().clone()
    with average.applied():
        torch.testing.assert_close(parameter.detach(), expected)
    assert torch.equal(parameter.detach(), own)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen
    assert not frozen & set(average.tensors)
    assert name in average.tensors


def test_the_mean_of_states():
    states = [{"w": torch.tensor([float(n), 2.0]), "count": torch.tensor(7 + n)} for n in range(3)]
    mean = mean_of(states)
    assert mean["w"].tolist() == pytest.approx([1.0, 2.0])
    assert mean["w"].dtype == torch.float32
    assert int(mean["count"]) == 7
