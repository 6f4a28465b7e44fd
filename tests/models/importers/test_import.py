"""An imported captioner beside the original: logits, pixels, tokens, captions."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.images import load
from pipeline.models.importers import import_checkpoint
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import Predictor, load_captioner

CLOSE = 1e-4


@pytest.fixture(scope="module")
def imported(original):
    saved, notes = import_checkpoint(str(original.directory))
    assert notes == []
    return saved


def picture(seed, width, height):
    """A smooth coloured picture as PNG."""
    random = np.random.default_rng(seed)
    small = Image.fromarray(random.integers(0, 256, (7, 9, 3), dtype=np.uint8))
    file = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def reference_logits(original, images, captions_BCT):
    """[B, C, T, V] by transformers."""
    model, rows = original.model, []
    for column in captions_BCT.unbind(1):
        if hasattr(model, "text_decoder"):
            memory = model.vision_model(images).last_hidden_state
            rows.append(model.text_decoder(column, encoder_hidden_states=memory).logits)
        else:
            rows.append(model(pixel_values=images, decoder_input_ids=column).logits)
    return torch.stack(rows, 1)


@torch.no_grad()
def test_teaching_and_stepping_give_the_originals_logits(original, imported):
    torch.manual_seed(1)
    model, vocabulary = imported.model, imported.architecture["vocabulary"]
    images, captions = torch.randn(3, 3, 32, 32), torch.randint(0, vocabulary, (3, 2, 9))
    expected = reference_logits(original, images, captions)
    assert expected.std() > 1  # 1e-4 of nothing would be nothing
    memory = model.memory(model.features(images))
    everywhere = torch.ones_like(captions, dtype=torch.bool)
    taught = model.teach(memory, captions, everywhere).logits_MV.view_as(expected)
    torch.testing.assert_close(taught, expected, atol=CLOSE, rtol=0)
    state = model.init_state(memory, 2, 9)
    for place in range(9):
        logits, state = model.step(captions[:, :, place].flatten(), state)
        torch.testing.assert_close(logits.view(3, 2, -1), expected[:, :, place], atol=CLOSE, rtol=0)


def test_pixels_are_those_of_the_originals_image_processor(original, imported):
    for seed, (width, height) in enumerate(((40, 50), (200, 90), (20, 31))):
        data = picture(seed, width, height)
        with Image.open(io.BytesIO(data)) as image:
            wanted = original.processor(image, return_tensors="pt")["pixel_values"][0]
        mean, std = (
            torch.tensor(v)[:, None, None]
            for v in (original.processor.image_mean, original.processor.image_std)
        )
        mine = torch.from_numpy(load(data, imported.transform)).float()
        assert (mine - (wanted * std + mean) * 255).abs().max() < 1.01


def test_tokens_are_those_of_the_originals_tokenizer(original, imported):
    texts = ["a dog runs over the café", "two children walking", "the boy's red xylophone"]
    for text, row in zip(texts, imported.tokenizer.encode(texts), strict=True):
        ids = original.tokenizer(text, add_special_tokens=False)["input_ids"]
        assert row == [imported.tokenizer.bos, *ids, imported.tokenizer.eos]
        shown = original.tokenizer.decode(ids, skip_special_tokens=True).strip()
        assert imported.tokenizer.decode(row[1:]) == shown
    assert len(imported.tokenizer) == imported.architecture["vocabulary"]


def test_captions_are_those_of_the_originals_generate(original, imported, transformers):
    # torchvision's pixels may be one level away, and random weights are sensitive.
    processor = transformers.AutoImageProcessor.from_pretrained(original.directory, backend="pil")
    pictures = [picture(seed, 48, 40) for seed in range(6)]
    captioner = Predictor(
        imported, device=torch.device("cpu"), ref="", name="", version="", fingerprint=""
    )
    # What is never shown is never chosen here; transformers has to be told.
    hidden = sorted(imported.tokenizer.special - {imported.tokenizer.eos})
    told = {"bad_words_ids": [[token] for token in hidden]} if hidden else {}
    for beam in (1, 3):
        captions = [caption.text for caption in captioner.caption(pictures, beam=beam)]
        images = [Image.open(io.BytesIO(data)) for data in pictures]
        pixels = processor(images, return_tensors="pt")["pixel_values"]
        rows = original.model.generate(
            pixel_values=pixels, num_beams=beam, max_new_tokens=20, **told
        )
        expected = original.tokenizer.batch_decode(rows, skip_special_tokens=True)
        assert captions == [text.strip() for text in expected]
        assert len(set(captions)) > 1


def test_it_is_saved_and_loaded_as_any_captioner(imported, tmp_path):
    imported.save(tmp_path)
    loaded = SavedCaptioner.load(tmp_path)
    assert loaded.provenance["original_sha256"] == imported.provenance["original_sha256"]
    black = torch.zeros(3, 8, 8, dtype=torch.uint8)
    [caption] = load_captioner(tmp_path, device="cpu").caption([black])
    again = Predictor(
        imported, device=torch.device("cpu"), ref="", name="", version="", fingerprint=""
    )
    [before] = again.caption([black])
    assert (caption.text, caption.score) == (before.text, pytest.approx(before.score, abs=1e-5))


def test_importing_moves_no_random_numbers(original):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    import_checkpoint(str(original.directory))
    assert torch.equal(torch.rand(3), expected)


def test_it_needs_no_transformers(save_original, tmp_path):
    save_original("vit", tmp_path)
    script = (
        "import sys\n"
        "sys.modules['transformers'] = sys.modules['huggingface_hub'] = None\n"
        "from pipeline.models.importers import import_checkpoint\n"
        "saved, _ = import_checkpoint(sys.argv[1])\n"
        "print(saved.provenance['original'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("VisionEncoderDecoderModel\n", "")


@pytest.mark.parametrize("change", [{"qkv_bias": False}, {"hidden_size": 48}])
@torch.no_grad()
def test_variants_of_the_encoder(save_original, tmp_path, change):
    """No biases in its attention; as wide as the decoder, so without a projection between them."""
    original = save_original("vit", tmp_path, **change)
    saved, _ = import_checkpoint(str(tmp_path))
    images, captions = torch.randn(2, 3, 32, 32), torch.randint(0, 40, (2, 1, 5))
    memory = saved.model.memory(saved.model.features(images))
    taught = saved.model.teach(memory, captions, torch.ones_like(captions, dtype=torch.bool))
    expected = reference_logits(original, images, captions)
    torch.testing.assert_close(taught.logits_MV.view_as(expected), expected, atol=CLOSE, rtol=0)
