"""Recorded steps give what running them gives, whatever batch comes next.

A GPU's recording is played here by running the recorded function on the recorded tensors: that
is what a CUDA graph does, so what is copied where is tested without a GPU.
"""

from __future__ import annotations

import pytest
import torch

from pipeline.decode import Limits, Sampling, capture, search
from pipeline.models.build import DECODERS
from pipeline.models.captioner import Captioner, Layout, Memory

SETTINGS = {
    "lstm": {"width": 24, "embedding": 16, "attention": 12, "dropout": 0.0},
    "gpt": {"width": 16, "layers": 2, "heads": 4, "bridge": "plain"},
    "bert": {"width": 16, "layers": 2, "heads": 4},
}
LIMITS = Limits(1, 2, 0, banned=(0, 1), max_len=11, ngram_block=1)


@pytest.fixture
def recordings(monkeypatch):
    """How often work was recorded and repeated."""
    counts = {"recorded": 0, "repeated": 0}

    def record(run, given):
        counts["recorded"] += 1
        outcome = run(given)

        def repeat():
            counts["repeated"] += 1
            again = run(given)
            for fixed, new in zip(capture.tensors(outcome), capture.tensors(again), strict=True):
                if fixed.data_ptr() != new.data_ptr():
                    fixed.copy_(new)

        return repeat, outcome

    monkeypatch.setattr(capture, "_record", record)
    return counts


def tiny(kind: str) -> Captioner:
    torch.manual_seed(3)
    decoder = DECODERS[kind](16, Layout(0, 2, 3), 25, **SETTINGS[kind])
    for name, parameter in decoder.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.5 if name.startswith("embed") else 0.3)
    return Captioner(torch.nn.Identity(), decoder).eval()


@pytest.mark.parametrize("kind", sorted(DECODERS))
@pytest.mark.parametrize("how", [{"beam": 1}, {"beam": 3}, {"beam": 1, "sampling": Sampling()}])
def test_recorded_searches_find_the_same(kind, how, recordings, monkeypatch):
    model = tiny(kind)
    batches = [Memory(torch.randn(size, 6, 16)) for size in (8, 8, 8, 5, 8, 5, 5)]
    plain = [search(model, memory, LIMITS, **how) for memory in batches]
    assert recordings["recorded"] == 0
    monkeypatch.setattr(capture, "_records", lambda _device: True)
    monkeypatch.setattr("pipeline.models.attention.ROOM", LIMITS.max_len)  # as on a GPU
    for module in ("pipeline.decode.beam.stride", "pipeline.decode.walk.stride"):
        monkeypatch.setattr(module, lambda _device: 3)
    recorded = [search(model, memory, LIMITS, **how) for memory in batches]
    assert recordings["repeated"] > recordings["recorded"] > 0
    for expected, found in zip(plain, recorded, strict=True):
        assert [[h.tokens for h in one] for one in expected] == [
            [h.tokens for h in one] for one in found
        ]


def test_other_weights_are_recorded_anew(recordings, monkeypatch):
    monkeypatch.setattr(capture, "_records", lambda _device: True)
    model, given = torch.nn.Linear(2, 2), (torch.ones(3, 2),)

    def run(given):
        return (model(given[0]),)

    with torch.inference_mode():
        for _ in range(3):
            before = capture.captured(model, "key", run, given, torch.device("cpu"))[0].clone()
        assert recordings["recorded"] == 1
        model.weight.data = torch.zeros(2, 2)
        after = capture.captured(model, "key", run, given, torch.device("cpu"))[0]
    torch.testing.assert_close(after, model.bias.expand(3, -1))
    assert not torch.equal(before, after)


@pytest.mark.parametrize("beam", [1, 3])
def test_where_recording_fails_the_search_goes_on_and_says_so_once(beam, monkeypatch, capsys):
    attempts = []

    def refuse(run, given):
        attempts.append(1)
        run(given)  # a recording may fail at its end, after all was written once
        raise RuntimeError("operation not permitted when stream is capturing\nCUDA's advice")

    model, batches = tiny("gpt"), [Memory(torch.randn(size, 6, 16)) for size in (6, 6, 6, 4, 4)]
    plain = [search(model, memory, LIMITS, beam=beam) for memory in batches]
    monkeypatch.setattr(capture, "_record", refuse)
    monkeypatch.setattr(capture, "_records", lambda _device: True)
    assert [search(model, memory, LIMITS, beam=beam) for memory in batches] == plain
    assert len(attempts) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].endswith("goes on slower: operation not permitted when stream is capturing")


def test_every_seed_uses_the_same_recording(recordings, monkeypatch):
    model, memory = tiny("gpt"), Memory(torch.randn(6, 6, 16))
    seeds = [Sampling(seed=seed) for seed in range(4)]
    plain = [search(model, memory, LIMITS, beam=1, sampling=sampling) for sampling in seeds]
    monkeypatch.setattr(capture, "_records", lambda _device: True)
    monkeypatch.setattr("pipeline.decode.walk.stride", lambda _device: LIMITS.max_len)
    found = [search(model, memory, LIMITS, beam=1, sampling=sampling) for sampling in seeds]
    for expected, one in zip(plain, found, strict=True):
        assert [h[0].tokens for h in one] == [h[0].tokens for h in expected]
    assert recordings == {"recorded": 1, "repeated": 3}
