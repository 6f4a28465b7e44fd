"""A search's past: beams that move keep it, and what no beam has as an ancestor is dropped."""

from __future__ import annotations

import pytest
import torch

from pipeline.models import attention
from pipeline.models.attention import BeamCache, attend

LAYERS, HEADS, D, STEPS = 2, 3, 4, 13


def walk(pictures, width, parents_of, leaving=None):
    """Random keys and values for every beam and token through a cache whose beams move.

    At every step the attention is compared with that over each beam's own past, kept by hand.
    The slots taken after each step come back.
    """
    generator = torch.Generator().manual_seed(4)
    like = torch.zeros(())
    cache = BeamCache.empty(like, LAYERS, pictures, width, STEPS, HEADS, D)
    past = torch.zeros(LAYERS, pictures, width, 0, 2, HEADS, D)
    slots = []
    for step in range(STEPS):
        new = torch.randn(LAYERS, pictures, width, 2, HEADS, D, generator=generator)
        past = torch.cat([past, new[:, :, :, None]], 3)
        cache = cache.with_room()
        for layer in range(LAYERS):
            keys, values, mask = cache.write(layer, new[layer].flatten(0, 1))
            query = torch.randn(pictures, HEADS, width, D, generator=generator)
            found, _ = attend(query, keys, values, mask)
            own_keys, own_values = past[layer].permute(3, 0, 4, 1, 2, 5)  # [B, h, W, t, d]
            shares = torch.einsum("bhwd,bhwtd->bhwt", query, own_keys).div(D**0.5).softmax(-1)
            torch.testing.assert_close(found, torch.einsum("bhwt,bhwtd->bhwd", shares, own_values))
        cache = cache.advance()
        assert cache.length == step + 1
        slots.append(cache.slots)
        kept = torch.arange(pictures)
        if leaving is not None and step == leaving[0]:
            kept = torch.tensor(leaving[1])
        parents = parents_of(step, len(kept), width, generator)
        cache = cache.select((kept[:, None] * width + parents).flatten())
        past = past[:, kept[:, None], parents]
        pictures = len(kept)
    return slots


def anywhere(_step, pictures, width, generator):
    return torch.randint(0, width, (pictures, width), generator=generator)


def nowhere(_step, pictures, width, _generator):
    return torch.arange(width).expand(pictures, -1)


@pytest.mark.parametrize("room", [1, 2, 5, STEPS])
@pytest.mark.parametrize("width", [1, 3])
@torch.no_grad()
def test_moved_beams_see_their_own_past(room, width, monkeypatch):
    monkeypatch.setattr(attention, "ROOM", room)
    slots = walk(4, width, anywhere, leaving=(6, [0, 2, 3]))
    # Never more than every beam's every token; beams of random parents soon have one past.
    assert all(taken <= width * (step + 1) for step, taken in enumerate(slots))
    if width > 1 and room <= 2:
        assert slots[-1] < width * STEPS * 2 / 3


@torch.no_grad()
def test_beams_that_share_their_past_keep_it_once(monkeypatch):
    monkeypatch.setattr(attention, "ROOM", 2)
    one = walk(3, 4, lambda _step, pictures, width, _generator: torch.ones(pictures, width).long())
    # The tokens so far once, and up to two tokens of every beam.
    assert all(taken <= step + 1 + 2 * 4 for step, taken in enumerate(one))


@torch.no_grad()
def test_beams_of_different_pasts_keep_all(monkeypatch):
    monkeypatch.setattr(attention, "ROOM", 3)
    assert walk(2, 3, nowhere) == [3 * (step + 1) for step in range(STEPS)]


@torch.no_grad()
def test_a_device_that_records_its_steps_has_room_to_the_end():
    cache = BeamCache.empty(torch.zeros((), device="meta"), 1, 2, 3, STEPS, HEADS, D)
    assert cache.buffers_cBhKd[0].shape == (2, 2, HEADS, 3 * STEPS, D)


@pytest.mark.parametrize("queries", [3, 50])
@torch.no_grad()
def test_bfloat16_attention_is_float32s_to_its_precision(queries):
    torch.manual_seed(5)
    # Keys as a cache and a picture encoder give them: a view of something larger.
    q = torch.randn(2, 3, queries, 8)
    kv = torch.randn(2, 60, 2, 3, 8).permute(2, 0, 3, 1, 4)[:, :, :, :50]
    exact, _ = attend(q, *kv)
    found, shares = attend(q.bfloat16(), *kv.bfloat16(), weights=True)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), exact, atol=0.03, rtol=0.03)
    torch.testing.assert_close(shares.float().sum(-1), torch.ones(2, queries), atol=0.02, rtol=0)
    torch.testing.assert_close(attend(q.bfloat16(), *kv.bfloat16())[0], found)
