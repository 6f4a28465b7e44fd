"""The GPT decoder against transformers' GPT-2, its settings, and what is shared between beams."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import ConfigError
from pipeline.models.captioner import Layout, Memory
from pipeline.models.gpt import GPTDecoder

VOCABULARY = 20
LAYOUT = Layout(1, 2, 3)


def tiny(channels: int = 12, **settings) -> GPTDecoder:
    torch.manual_seed(0)
    sizes = {"width": 16, "layers": 2, "heads": 4, "positions": 9, **settings}
    decoder = GPTDecoder(channels, LAYOUT, VOCABULARY, **sizes).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return decoder


@pytest.mark.parametrize(("activation", "theirs"), [("gelu_tanh", "gelu_new"), ("gelu", "gelu")])
def test_it_is_gpt2_with_cross_attention(activation, theirs):
    transformers = pytest.importorskip("transformers", reason="needs the dev extra: transformers")
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=9,
        n_embd=16,
        n_layer=2,
        n_head=4,
        n_inner=24,
        activation_function=theirs,
        layer_norm_epsilon=1e-3,
        add_cross_attention=True,
    )
    gpt2 = transformers.GPT2LMHeadModel(config).eval()
    ours = tiny(16, mlp=24, activation=activation, eps=1e-3, bridge="plain")
    with torch.no_grad():
        gpt2.transformer.wte.weight.copy_(ours.embed.weight)
        gpt2.transformer.wpe.weight.copy_(ours.position.weight)
        gpt2.transformer.ln_f.load_state_dict(ours.norm.state_dict())
        for theirs_block, block in zip(gpt2.transformer.h, ours.blocks, strict=True):
            for name, module in (
                ("ln_1", block.norm_self),
                ("ln_cross_attn", block.norm_cross),
                ("ln_2", block.norm_mlp),
                ("attn.c_attn", block.self_qkv),
                ("attn.c_proj", block.self_out),
                ("crossattention.q_attn", block.cross_query),
                ("crossattention.c_attn", block.cross_keys_values),
                ("crossattention.c_proj", block.cross_out),
                ("mlp.c_fc", block.mlp_up),
                ("mlp.c_proj", block.mlp_down),
            ):
                target = theirs_block.get_submodule(name)
                target.weight.copy_(module.weight.T if module.weight.ndim > 1 else module.weight)
                target.bias.copy_(module.bias)
    tokens = torch.randn(3, LAYOUT.tokens, 16)
    captions = torch.randint(0, VOCABULARY, (3, 1, 9))
    with torch.no_grad():
        expected = gpt2(captions[:, 0], encoder_hidden_states=tokens).logits
        every = torch.ones_like(captions, dtype=torch.bool)
        found = ours.teach(ours.remember(tokens), captions, every).logits_MV
    torch.testing.assert_close(found.view_as(expected), expected, atol=1e-4, rtol=1e-4)


def test_the_bridge_is_a_projection_only_where_widths_differ():
    tokens = torch.randn(2, LAYOUT.tokens, 12)
    plain = tiny(bridge="plain")
    torch.testing.assert_close(plain.remember(tokens).tokens_BSD, plain.bridge(tokens))
    same = GPTDecoder(16, LAYOUT, VOCABULARY, width=16, layers=1, heads=2, bridge="plain")
    wide = torch.randn(2, LAYOUT.tokens, 16)
    assert same.remember(wide).tokens_BSD is wide
    assert "place" not in same.state_dict()


def test_beams_move_without_moving_their_caches():
    decoder = tiny()
    memory = decoder.remember(torch.randn(3, LAYOUT.tokens, 12))
    with torch.inference_mode():
        state = decoder.init_state(memory, 2, 5)
        _, state = decoder.step(torch.tensor([4, 5, 6, 7, 8, 9]), state, False)
        moved = state.select(torch.tensor([1, 0, 2, 2, 5, 5]))
    assert moved.past.buffers_cBhKd[0].data_ptr() == state.past.buffers_cBhKd[0].data_ptr()
    assert moved.keys[0].data_ptr() == state.keys[0].data_ptr()


def test_padding_costs_nothing_and_changes_nothing():
    decoder = tiny()
    memory = decoder.remember(torch.randn(2, LAYOUT.tokens, 12))
    captions = torch.randint(4, VOCABULARY, (2, 2, 7))
    at = torch.zeros_like(captions, dtype=torch.bool)
    at[0, 0, :5] = at[0, 1, 2] = at[1, 1, :7] = True
    padded = captions.masked_fill(~at.flip(-1).cumsum(-1).flip(-1).bool(), 0)
    computed = []
    handle = decoder.blocks[0].self_qkv.register_forward_hook(
        lambda _module, given, _out: computed.append(len(given[0]))
    )
    some = decoder.teach(memory, padded, at, attention=True)
    handle.remove()
    every = decoder.teach(memory, captions, torch.ones_like(at), attention=True)
    assert computed == [5 + 3 + 7]
    torch.testing.assert_close(some.logits_MV, every.logits_MV[at.flatten()])
    torch.testing.assert_close(some.attention_MS, every.attention_MS[at.flatten()])


def test_it_learns():
    decoder = tiny(dropout=0.1).train()
    decoder._initialise(decoder.embed.embedding_dim, 2)
    optimiser = torch.optim.Adam(decoder.parameters(), 1e-2)
    tokens = torch.randn(4, LAYOUT.tokens, 12)
    captions = torch.randint(4, VOCABULARY, (4, 2, 6))
    at = torch.rand(4, 2, 6) > 0.2
    losses = []
    for _ in range(60):
        logits = decoder.teach(decoder.remember(tokens), captions, at).logits_MV
        # Each place is to say its own token: learnable whatever the noise.
        loss = torch.nn.functional.cross_entropy(logits, captions[at])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in decoder.parameters())
    assert losses[-1] < losses[0] / 3


def test_captions_longer_than_the_positions_are_refused():
    decoder = tiny()
    memory = Memory(torch.randn(1, LAYOUT.tokens, 16))
    with pytest.raises(ConfigError, match=r"10 tokens.*9 positions.*max_len"):
        decoder.init_state(memory, 1, 10)
    captions = torch.zeros((1, 1, 10), dtype=torch.long)
    with pytest.raises(ConfigError, match="9 positions"):
        decoder.teach(memory, captions, captions == 0)
    with pytest.raises(ConfigError, match=r"heads = 3 do not divide width = 16"):
        tiny(heads=3)
