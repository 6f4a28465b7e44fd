"""Where the model looked: maps that belong to the words, and a drawing that shows them."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config_model import GenerationConfig
from pipeline.explain import Explanation, Token, WordMap, draw, explain
from pipeline.explain.lettering import lettering
from pipeline.explain.overlay import overlay
from pipeline.images import Transform
from pipeline.models.build import build
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import Predictor
from pipeline.text import Tokenizer

CAPTIONS = ["a red square on a white page", "the brown dogs' ball", "été à la plage"]
DECODERS = {
    "lstm": {"kind": "lstm", "width": 16, "embedding": 16, "attention": 8, "dropout": 0.0},
    "gpt": {"kind": "gpt", "width": 16, "layers": 2, "heads": 2, "dropout": 0.0, "positions": 12},
}
CNN = {"name": "resnet18", "train": "none"}
VIT = {"name": "vit", "train": "all", "patch": 8, "depth": 1, "width": 16, "heads": 2, "mlp": 32}


def captioner(decoder="gpt", encoder=CNN, bpe=False, resize="squash", size=64):
    torch.manual_seed(0)
    tokenizer = Tokenizer.train_bpe(CAPTIONS * 5) if bpe else Tokenizer.train(CAPTIONS)
    architecture = {
        "encoder": encoder,
        "decoder": DECODERS[decoder],
        "vocabulary": len(tokenizer),
        "size": size,
    }
    saved = SavedCaptioner(
        build(architecture),
        tokenizer,
        Transform(size=size, resize=resize),
        GenerationConfig(beam=2, max_len=12, min_len=5),
        architecture,
    )
    cpu = torch.device("cpu")
    return Predictor(saved, device=cpu, ref="here", name="m", version="", fingerprint="f")


def png(width=90, height=60):
    out = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("encoder", [CNN, VIT], ids=["cnn", "vit"])
@pytest.mark.parametrize("decoder", ["lstm", "gpt"])
def test_each_word_has_a_map_of_all_its_attention(decoder, encoder):
    model = captioner(decoder, encoder)
    found = explain(model, png(), beam=3)
    assert (
        found.caption
        == model.caption([png()], beam=3)[0].text
        == " ".join(word.text for word in found.words)
    )
    layout = model.model.encoder.layout
    assert (found.rows, found.columns) == (layout.rows, layout.columns)
    for word in found.words:
        assert word.grid.shape == (layout.rows, layout.columns)
        assert word.grid.sum() + word.elsewhere == pytest.approx(1, abs=1e-5)
        assert (word.elsewhere > 0) == (layout.prefix > 0)
        assert word.log_probability == pytest.approx(
            sum(found.tokens[place].log_probability for place in word.tokens)
        )
    assert found.score == pytest.approx(np.mean([t.log_probability for t in found.tokens]))


@torch.inference_mode()
def test_a_word_of_several_tokens_has_the_mean_of_their_maps():
    model = captioner(bpe=True)
    found = explain(model, png())
    assert max(len(word.tokens) for word in found.words) > 1
    # The same attention, a token at a time as the search would see it.
    memory = model.model.memory(model.features(model.pixels(png())[None]))
    state = model.model.init_state(memory, 1, 12)
    looks = []
    for token in [model.limits.bos, *(t.id for t in found.tokens[:-1])]:
        _, state = model.model.step(torch.tensor([token]), state, attention=True)
        looks.append(state.attention[0].numpy())
    for word in found.words:
        mean = np.mean([looks[place] for place in word.tokens], 0)
        np.testing.assert_allclose(word.grid.flatten(), mean, atol=1e-5)


def test_the_numbers_are_plain_json():
    found = explain(captioner(), png())
    read = json.loads(json.dumps(found.to_json()))
    assert read["grid"] == {"rows": 2, "columns": 2}
    assert [word["text"] for word in read["words"]] == found.caption.split()
    assert np.shape(read["words"][0]["grid"]) == (2, 2)
    assert read["tokens"][0].keys() == {"id", "text", "log_probability"}


@pytest.mark.parametrize(("resize", "ratio"), [("squash", 90 / 60), ("crop", 1.0), ("pad", 1.0)])
def test_the_picture_is_what_the_model_saw_in_its_own_proportions(resize, ratio):
    found = explain(captioner(resize=resize), png(90, 60))
    assert found.picture.width / found.picture.height == pytest.approx(ratio, abs=0.01)


def drawn(words, grid=None, size=(60, 40), caption=None):
    grid = np.full((2, 2), 0.25) if grid is None else grid
    maps = tuple(WordMap(word, (0,), -0.5, grid, 0.0) for word in words)
    photo = Image.new("RGB", size, (150, 150, 150))
    text = " ".join(words) if caption is None else caption
    return draw(Explanation(text, -0.5, (Token(4, "a", -0.5),), maps, 2, 2, photo))


def test_the_heat_lies_where_the_attention_is():
    photo = Image.new("RGB", (80, 40), (150, 150, 150))
    light = np.asarray(overlay(photo, np.array([[0.0, 1.0], [0.0, 0.0]])), dtype=float).sum(-1)
    assert light.shape == (40, 80)
    upper_right = light[:15, 55:].mean()
    others = (light[:15, :25], light[25:, :25], light[25:, 55:])
    assert all(upper_right > 2 * other.mean() for other in others)


def test_a_map_without_a_peak_is_not_made_to_have_one():
    photo = Image.new("RGB", (80, 40), (150, 150, 150))
    nearly = np.full((4, 4), 1 / 16)
    nearly[0, 0] *= 1.01
    light = np.asarray(overlay(photo, nearly), dtype=float)
    assert np.ptp(light.sum(-1)) < 10
    assert np.asarray(overlay(photo, np.zeros((2, 2)))).max() < 100, "nowhere: dark"


def test_the_page_has_a_panel_a_word_on_an_even_grid():
    one, many = drawn(["dog"]), drawn([f"word{n}" for n in range(9)])
    assert many.height > one.height and many.width > one.width
    # Panels are the only dark things: their left edges stand in equal columns.
    dark = (np.asarray(many.convert("L")) < 150)[120:].mean(0) > 0.5
    starts = np.flatnonzero(np.diff(dark.astype(int)) == 1)
    assert len(starts) >= 3 and len(set(np.diff(starts))) == 1


@pytest.mark.parametrize("words", [[], ["a" * 200], ["été", "чёрный", "漢字", "🐕"], ["."] * 60])
@pytest.mark.parametrize("size", [(448, 2), (2, 448), (448, 448)])
def test_any_words_and_any_proportions_can_be_drawn(words, size):
    page = drawn(words, size=size)
    assert page.width < 4000


def test_letters_that_no_font_has_become_their_base_letters(monkeypatch):
    from pipeline.explain import lettering as module

    monkeypatch.setattr(module, "SYSTEM_FONTS", ())
    module._fonts.cache_clear()
    assert lettering("a dog!", 20)[1] == "a dog!"
    assert lettering("été 漢", 20)[1] == "ete ?"
    module._fonts.cache_clear()
