"""Encoders from timm: its own features as tokens, its weights, and what is frozen."""

from __future__ import annotations

import builtins

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import ConfigError, WeightsError
from pipeline.models.encoders import build_encoder

timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'captionmill[timm]'")


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("test_resnet", (0, 2, 2)),
        ("test_mambaout", (0, 2, 2)),  # channels last
        ("test_convnext", (0, 2, 2)),
        ("test_vit", (1, 4, 4)),
        ("test_vit_relpos", (0, 4, 4)),  # no class token
        ("deit_tiny_distilled_patch16_224", (2, 4, 4)),
    ],
)
@pytest.mark.parametrize("train", ["none", 1])
@torch.inference_mode()
def test_tokens_are_timms_features(name, layout, train, tmp_path):
    sized = {"img_size": 64} if "vit" in name or "deit" in name else {}
    model = timm.create_model(name, **sized).eval()
    path = tmp_path / "w.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    encoder = build_encoder(f"timm:{name}", size=64, train=train, weights=path)
    assert encoder.layout == layout
    images = torch.randn(2, 3, 64, 64)
    tokens, expected = encoder.memory(encoder.features(images)), model.forward_features(images)
    if expected.ndim == 4:
        channels_last = name == "test_mambaout"
        expected = expected if channels_last else expected.permute(0, 2, 3, 1)
        expected = expected.flatten(1, 2)
    torch.testing.assert_close(tokens, expected, atol=1e-4, rtol=1e-4)
    assert tokens.shape[1:] == (encoder.layout.tokens, encoder.width)


def test_only_a_frozen_model_has_features_to_keep():
    images = torch.randn(1, 3, 64, 64)
    assert build_encoder("timm:test_vit", size=64).features(images).shape == (1, 17, 64)
    assert build_encoder("timm:test_vit", size=64, train=1).features(images) is images


def test_a_training_step_moves_only_the_last_stages():
    torch.manual_seed(0)
    encoder = build_encoder("timm:test_resnet", size=64, train=1).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1.0)
    encoder.memory(encoder.features(torch.randn(2, 3, 64, 64))).square().sum().backward()
    optimiser.step()
    moved = {k for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(key.startswith("model.layer4") and "running" not in key for key in moved)


def test_frozen_parts_stay_in_evaluation():
    encoder = build_encoder("timm:test_vit", size=64, train=2).train()
    blocks = encoder.model.blocks
    assert [block.training for block in blocks] == [False] * 4 + [True] * 2
    assert not any(
        m.training for m in build_encoder("timm:test_vit", size=64).train().model.modules()
    )


def test_a_file_for_another_size_is_resampled(tmp_path, capsys):
    model = timm.create_model("test_vit")
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    encoder = build_encoder("timm:test_vit", size=64, weights=tmp_path / "w.safetensors")
    assert model.pos_embed.shape[1] == 101
    assert encoder.model.pos_embed.shape[1] == 17
    assert "head is not used" in capsys.readouterr().err


def test_files_that_do_not_fit(tmp_path):
    state = timm.create_model("test_vit").state_dict()
    del state["norm.weight"]
    state["strange"] = torch.zeros(1)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"missing: norm\.weight.*unknown: strange"):
        build_encoder("timm:test_vit", size=64, weights=tmp_path / "w.safetensors")


def test_weights_from_the_hub_that_cannot_be_had(monkeypatch):
    def offline(*_args, **_options):
        raise OSError("no network")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    with pytest.raises(
        WeightsError, match=r"r160_in1k of timm:test_vit \(no network\); connect, or"
    ):
        build_encoder("timm:test_vit", size=160, weights="DEFAULT")


def test_weights_from_the_hub(monkeypatch):
    state = timm.create_model("test_vit").state_dict()
    monkeypatch.setattr(
        "timm.models._builder.load_state_dict_from_hf", lambda *_args, **_options: dict(state)
    )
    encoder = build_encoder("timm:test_vit", size=160, weights="r160_in1k")
    assert torch.equal(encoder.model.pos_embed, state["pos_embed"])


def test_names_that_timm_does_not_know():
    with pytest.raises(ConfigError, match="no model 'test_vitt'; near: timm:test_vit"):
        build_encoder("timm:test_vitt")
    with pytest.raises(ConfigError, match="has no weights 'bogus'; it has r160_in1k"):
        build_encoder("timm:test_vit.bogus")
    with pytest.raises(ConfigError, match="has 7 stages"):
        build_encoder("timm:test_vit", size=64, train=8)
    with pytest.raises(ConfigError, match="cannot take pictures of 70 pixels"):
        build_encoder("timm:test_vit", size=70)


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "timm":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"pip install 'captionmill\[timm\]'"):
        build_encoder("timm:test_vit")
