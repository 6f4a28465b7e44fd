"""The transform recipe: from the weights, unless the user says otherwise."""

from __future__ import annotations

import pytest

from pipeline.config_model import EncoderConfig, TransformConfig
from pipeline.images import Transform
from pipeline.models.recipe import transform_for

SWAG = EncoderConfig(name="vit_b_16", weights="IMAGENET1K_SWAG_E2E_V1")


def test_named_weights_bring_their_size_and_interpolation():
    found = transform_for(SWAG, TransformConfig())
    assert (found.size, found.interpolation) == (384, "bicubic")
    b0 = transform_for(EncoderConfig(name="efficientnet_b1", weights="DEFAULT"), TransformConfig())
    assert (b0.size, b0.interpolation, b0.mean) == (240, "bilinear", (0.485, 0.456, 0.406))


@pytest.mark.parametrize("weights", [None, "somewhere/w.pth"])
def test_without_named_weights_it_is_imagenets(weights):
    found = transform_for(EncoderConfig(name="mobilenet_v2", weights=weights), TransformConfig())
    assert found == Transform()


def test_what_the_user_sets_stays():
    wanted = TransformConfig(
        size=64, resize="pad", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bilinear"
    )
    found = transform_for(SWAG, wanted)
    assert wanted.model_dump().items() <= found.model_dump().items()


def test_timm_says_what_its_models_expect():
    pytest.importorskip("timm", reason="timm is not installed")
    found = transform_for(EncoderConfig(name="timm:test_vit"), TransformConfig())
    assert (found.size, found.mean, found.std) == (160, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    tagged = EncoderConfig(name="timm:vit_base_patch16_224", weights="mae")
    assert transform_for(tagged, TransformConfig()).mean == (0.485, 0.456, 0.406)
    local = EncoderConfig(name="timm:test_vit", weights="./w.safetensors")
    assert transform_for(local, TransformConfig()) == found
