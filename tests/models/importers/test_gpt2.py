"""A GPT-2 checkpoint alone as the start of a GPT decoder."""

from __future__ import annotations

import pytest
import torch

from pipeline.errors import ModelError, WeightsError
from pipeline.models.captioner import Layout
from pipeline.models.gpt import GPTDecoder
from pipeline.models.importers.gpt2 import initialise

VOCABULARY, POSITIONS = 50, 24
FITS = {"width": 48, "layers": 2, "heads": 4, "positions": POSITIONS}


@pytest.fixture(params=["GPT2LMHeadModel", "GPT2Model"])
def checkpoint(request, transformers, tmp_path):
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=48,
        n_layer=2,
        n_head=4,
        n_positions=POSITIONS,
        bos_token_id=0,
        eos_token_id=0,
    )
    torch.manual_seed(0)
    model = getattr(transformers, request.param)(config).eval()
    for value in model.parameters():
        if value.ndim > 1:
            torch.nn.init.normal_(value, std=0.3)
    model.save_pretrained(tmp_path)
    return model, tmp_path


def decoder(vocabulary=VOCABULARY, **change):
    torch.manual_seed(1)
    return GPTDecoder(32, Layout(1, 2, 2), vocabulary, **{**FITS, **change}).eval()


@torch.no_grad()
def test_without_a_picture_it_is_the_language_model(checkpoint):
    """Cross-attention that adds nothing leaves GPT-2's own logits."""
    model, directory = checkpoint
    ours = decoder(positions=16)
    initialise(ours, directory)
    for block in ours.blocks:
        block.cross_out.weight.zero_()
        block.cross_out.bias.zero_()
    captions = torch.randint(0, VOCABULARY, (3, 1, 9))
    memory = ours.remember(torch.randn(3, 5, 32))
    taught = ours.teach(memory, captions, torch.ones_like(captions, dtype=torch.bool), False)
    found = model(captions[:, 0])
    hidden = found.last_hidden_state if hasattr(found, "last_hidden_state") else None
    expected = found.logits if hidden is None else hidden @ model.wte.weight.T
    assert expected.std() > 0.5
    torch.testing.assert_close(taught.logits_MV.view_as(expected), expected, atol=1e-4, rtol=0)


def test_what_gpt2_has_not_stays_as_it_is(checkpoint):
    ours, before = decoder(), decoder()
    initialise(ours, checkpoint[1])
    changed = {
        name
        for name, value in ours.state_dict().items()
        if not torch.equal(value, before.state_dict()[name])
    }
    kept = {name for name in before.state_dict() if "cross" in name or "bridge" in name}
    assert kept and not changed & kept
    assert {"embed.weight", "position.weight", "blocks.1.mlp_down.weight"} <= changed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 32}, "width = 48"),
        ({"layers": 3}, "layers = 2"),
        ({"heads": 2}, "heads = 4"),
        ({"mlp": 48}, "mlp = 192"),
        ({"activation": "gelu"}, "activation = gelu_tanh"),
        ({"positions": 30}, "positions = 24"),
        ({"vocabulary": 40}, "knows 50 tokens, the tokenizer 40"),
    ],
)
def test_a_decoder_of_another_shape(checkpoint, change, message):
    _, directory = checkpoint
    with pytest.raises(WeightsError) as raised:
        initialise(decoder(**change), directory)
    assert message in str(raised.value) and str(directory) in str(raised.value)


def test_a_checkpoint_of_another_kind(save_original, tmp_path):
    save_original("vit", tmp_path)
    with pytest.raises(ModelError, match="holds a vision-encoder-decoder model"):
        initialise(decoder(), tmp_path)
