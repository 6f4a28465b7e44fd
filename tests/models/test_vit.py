"""The ViT: torchvision's to float precision, of any size, and aware of places."""

from __future__ import annotations

import pytest
import torch
from torchvision.models import VisionTransformer

from pipeline.errors import ConfigError, WeightsError
from pipeline.models.encoders import build_encoder
from pipeline.models.vit import ViTEncoder, from_torchvision, resample_positions

SETTINGS = {"patch": 8, "depth": 3, "width": 32, "heads": 4, "mlp": 48}


def theirs(size: int) -> VisionTransformer:
    torch.manual_seed(1)
    model = VisionTransformer(size, 8, 3, 4, 32, 48, num_classes=7).eval()
    torch.nn.init.normal_(model.class_token)
    return model


def save(model: VisionTransformer, path, rename=lambda key: key):
    torch.save({rename(key): value for key, value in model.state_dict().items()}, path)
    return path


def their_tokens(model: VisionTransformer, images: torch.Tensor) -> torch.Tensor:
    seen = []
    model.encoder.register_forward_hook(lambda _, __, out: seen.append(out))
    model(images)
    return seen[0]


@pytest.mark.parametrize("train", ["none", 2, "all"])
@torch.inference_mode()
def test_torchvisions_weights_give_torchvisions_tokens(train, tmp_path, capsys):
    model = theirs(32)
    path = save(model, tmp_path / "w.pth")
    encoder = build_encoder("vit", size=32, train=train, weights=path, **SETTINGS)
    images = torch.randn(2, 3, 32, 32)
    tokens = encoder.memory(encoder.features(images))
    torch.testing.assert_close(tokens, their_tokens(model, images), atol=1e-5, rtol=1e-5)
    assert encoder.layout == (1, 4, 4)
    total = len(model.state_dict())
    line = f"vit: {total - 2} of {total} tensors from {path}; its classification head is not used"
    assert line in capsys.readouterr().err


@torch.inference_mode()
def test_the_names_of_the_published_files_load_too(tmp_path):
    """Torchvision's published ViTs were saved when the MLP's layers had other names."""

    def old(key: str) -> str:
        return key.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2.")

    model = theirs(32)
    path = save(model, tmp_path / "w.pth", old)
    encoder = build_encoder("vit", size=32, weights=path, **SETTINGS)
    images = torch.randn(1, 3, 32, 32)
    found = encoder.memory(encoder.features(images))
    torch.testing.assert_close(found, their_tokens(model, images), atol=1e-5, rtol=1e-5)


def test_torchvisions_names_have_torchvisions_sizes():
    encoder = build_encoder("vit_b_32", size=64, train=1)
    assert (encoder.width, encoder.layout, len(encoder.stages)) == (768, (1, 2, 2), 14)
    assert encoder.stages.block_0.self_attention.num_heads == 12
    assert encoder.stages.block_0.mlp[0].out_features == 3072


@torch.inference_mode()
def test_the_outcome_depends_on_where_a_patch_stands():
    torch.manual_seed(0)
    encoder = ViTEncoder(image_size=32, **SETTINGS)
    images = torch.randn(1, 3, 32, 32)
    swapped = images.roll(8, 3)  # the same patches in each row, one place further
    tokens, moved = (encoder.memory(encoder.features(x))[:, 1:] for x in (images, swapped))
    back = moved.unflatten(1, (4, 4)).roll(-1, 2).flatten(1, 2)
    assert (tokens - back).abs().max() > 1e-3
    # Without positions it would not.
    encoder.stages.embedding.positions[:, 1:] = 0.0
    tokens, moved = (encoder.memory(encoder.features(x))[:, 1:] for x in (images, swapped))
    back = moved.unflatten(1, (4, 4)).roll(-1, 2).flatten(1, 2)
    torch.testing.assert_close(tokens, back, atol=1e-5, rtol=1e-5)


def test_positions_for_another_size_keep_their_places():
    side, width = 4, 5
    grid = torch.arange(float(side)).view(1, side, 1, 1).expand(1, side, side, width)
    leading = torch.randn(1, 2, width)
    positions = torch.cat([leading, grid.flatten(1, 2)], 1)
    assert resample_positions(positions, 2, side) is positions
    larger = resample_positions(positions, 2, 8)
    assert larger.shape == (1, 2 + 64, width)
    assert torch.equal(larger[:, :2], leading)
    rows = larger[0, 2:].unflatten(0, (8, 8))
    torch.testing.assert_close(rows[:, 0], rows[:, 5])  # columns were alike and stay so
    assert (rows[1:, 0] > rows[:-1, 0]).all()  # and rows go on from top to bottom
    torch.testing.assert_close(rows[3:5, 0, 0].mean(), torch.tensor(1.5))
    back = resample_positions(larger, 2, side)
    torch.testing.assert_close(back, positions, atol=0.15, rtol=0)
    with pytest.raises(ValueError, match="15 patch positions are no square"):
        resample_positions(positions[:, 1:], 2, side)


@torch.inference_mode()
def test_a_file_of_another_image_size_is_resampled_and_said(tmp_path, capsys):
    model = theirs(32)
    path = save(model, tmp_path / "w.pth")
    encoder = build_encoder("vit", size=48, weights=path, **SETTINGS)
    assert encoder.layout == (1, 6, 6)
    expected = resample_positions(model.encoder.pos_embedding, 1, 6)
    torch.testing.assert_close(encoder.stages.embedding.positions, expected)
    assert "positions resampled from 17 to 37 tokens" in capsys.readouterr().err


def test_files_that_do_not_fit(tmp_path):
    model = theirs(32)
    path = save(model, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"unknown: block_2\.ln_1\.weight"):
        build_encoder("vit", size=32, weights=path, **{**SETTINGS, "depth": 2})
    with pytest.raises(WeightsError, match=r"missing: block_3\.ln_1\.weight"):
        build_encoder("vit", size=32, weights=path, **{**SETTINGS, "depth": 4})
    with pytest.raises(WeightsError, match=r"embedding\.projection\.weight \(32, 3, 8, 8\)"):
        build_encoder("vit", size=32, weights=path, **{**SETTINGS, "patch": 4})
    state = model.state_dict()
    state["encoder.pos_embedding"] = torch.zeros(1, 16, 32)
    torch.save(state, path)
    with pytest.raises(WeightsError, match="15 patch positions are no square grid"):
        build_encoder("vit", size=32, weights=path, **SETTINGS)


def test_sizes_that_cannot_be():
    with pytest.raises(ConfigError, match=r"size = 100 is not a multiple of vit's patch of 8.*96"):
        ViTEncoder(image_size=100, **SETTINGS)
    with pytest.raises(ConfigError, match="width = 32 is not a multiple of heads = 5"):
        ViTEncoder(image_size=32, **{**SETTINGS, "heads": 5})
    with pytest.raises(ConfigError, match="vit has 5 stages"):
        ViTEncoder(image_size=32, train=6, **SETTINGS)


@torch.inference_mode()
def test_two_leading_tokens_and_another_epsilon():
    encoder = ViTEncoder(image_size=32, prefix_tokens=2, eps=1e-12, **SETTINGS)
    assert encoder.layout == (2, 4, 4)
    assert encoder.memory(encoder.features(torch.zeros(1, 3, 32, 32))).shape == (1, 18, 32)
    norms = [m for m in encoder.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert [norm.eps for norm in norms] == [1e-12] * 7


def test_stages_load_by_their_names_wherever_training_starts():
    state = {
        k: torch.randn_like(v)
        for k, v in ViTEncoder(image_size=32, **SETTINGS).stages.state_dict().items()
    }
    for train in ("none", 2, "all"):
        encoder = ViTEncoder(image_size=32, train=train, **SETTINGS)
        encoder.stages.load_state_dict(state)
        loaded = {k.split(".", 1)[1]: v for k, v in encoder.state_dict().items()}
        assert loaded.keys() == state.keys()
        assert all(torch.equal(loaded[key], state[key]) for key in state)


def test_every_tensor_has_a_place():
    renamed = from_torchvision(theirs(32).state_dict())
    own = ViTEncoder(image_size=32, **SETTINGS).stages.state_dict()
    assert {key for key in renamed if not key.startswith("heads.")} == set(own)
