"""Image processors as transforms: the same pixels, or a refusal that says why."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ModelError
from pipeline.images import fit, normalise
from pipeline.models.importers.checkpoint import Checkpoint
from pipeline.models.importers.preprocessor import read_transform

SIZE = 48
GOOD = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.3, 0.4],
    "image_processor_type": "ViTImageProcessor",
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": SIZE, "width": SIZE},
}


def read(directory, settings, size=SIZE):
    (directory / "preprocessor_config.json").write_text(json.dumps(settings))
    return read_transform(Checkpoint(directory, {}), size)


def photograph(width, height):
    random = np.random.default_rng(width)
    small = Image.fromarray(random.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("change", "most"),
    [
        ({}, 0),
        ({"resample": 3}, 0),
        ({"size": SIZE}, 0),
        ({"size": {"height": 56, "width": 56}, "do_center_crop": True, "crop_size": SIZE}, 2),
        ({"size": {"shortest_edge": 60}, "do_center_crop": True, "crop_size": SIZE}, 2),
        ({"size": {"shortest_edge": SIZE}, "do_center_crop": True, "crop_size": SIZE}, 2),
    ],
    ids=["bilinear", "bicubic", "one side", "squash and crop", "short side and crop", "crop"],
)
def test_pixels_are_those_of_transformers_on_pillow(transformers, tmp_path, change, most):
    transform = read(tmp_path, {**GOOD, **change})
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    for width, height in ((160, 120), (100, 163), (48, 48), (31, 90)):
        image = photograph(width, height)
        theirs = processor(image, do_normalize=False, do_rescale=False, return_tensors="pt")
        ours = fit(np.asarray(image), transform)
        difference = np.abs(theirs["pixel_values"][0].numpy().astype(int) - ours)
        assert difference.max() <= most
        assert difference.mean() < 0.25


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"do_normalize": False},
        {"do_normalize": False, "do_rescale": False},
    ],
    ids=["as usual", "not rescaled", "to 0..2", "not normalised", "raw"],
)
def test_numbers_are_those_of_transformers(transformers, tmp_path, change):
    import torch

    transform = read(tmp_path, {**GOOD, **change})
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    image = photograph(90, 70)
    theirs = processor(image, return_tensors="pt")["pixel_values"].float()
    ours = normalise(torch.from_numpy(fit(np.asarray(image), transform))[None], transform)
    torch.testing.assert_close(
        ours, theirs, atol=1e-3 if theirs.abs().max() > 9 else 1e-5, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_resize": False}, "does not resize"),
        ({"do_pad": True}, "pads pictures"),
        ({"resample": [2]}, "resizes by filter [2];"),
        ({"resample": 1}, "resizes by filter 1; supported: {2: 'bilinear', 3: 'bicubic'}"),
        (
            {"size": {"height": 32, "width": 32}},
            "makes pictures of 32 pixels; the encoder takes 48",
        ),
        ({"size": {"height": 48, "width": 64}}, "supported: square ones"),
        ({"size": {"longest_edge": 48}}, "supported: one side, height and width"),
        ({"size": {"shortest_edge": 48}}, "does not crop"),
        ({"size": 32, "do_center_crop": True, "crop_size": 48}, "resize_to = 32"),
        ({"image_std": [0.5, 0.0, 0.5]}, "greater than 0"),
        ({"image_mean": [0.5]}, "image_mean = [0.5]; supported: three numbers"),
        ({"rescale_factor": "small"}, "rescales by 'small'"),
        ({"image_mean": None}, "says nothing of image_mean"),
    ],
)
def test_what_cannot_be_expressed(tmp_path, change, message):
    settings = {k: v for k, v in {**GOOD, **change}.items() if v is not None}
    with pytest.raises(ModelError) as raised:
        read(tmp_path, settings)
    assert message in str(raised.value) and str(tmp_path) in str(raised.value)


def test_no_image_processor(tmp_path):
    with pytest.raises(ModelError, match="has no image processor"):
        read_transform(Checkpoint(tmp_path, {}), SIZE)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": GOOD}))
    assert read_transform(Checkpoint(tmp_path, {}), SIZE).size == SIZE
