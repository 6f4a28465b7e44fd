"""Encoders: stages, what is frozen, and weights that must fit."""

from __future__ import annotations

from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from pipeline.errors import ConfigError, WeightsError
from pipeline.models.encoders import build_encoder


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "mobilenet_v3_small"])
def test_the_stages_together_are_torchvisions_model(name, tmp_path):
    model = torchvision.models.get_model(name, weights=None).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    encoder = build_encoder(name, train=2, weights=tmp_path / "w.safetensors").eval()
    # A ResNet is its children in a row, but for pooling and the head at the end.
    whole = (
        model.features
        if hasattr(model, "features")
        else torch.nn.Sequential(*list(model.children())[:-2])
    )
    images = torch.randn(2, 3, 64, 64)
    grid = encoder.memory(encoder.features(images))
    torch.testing.assert_close(grid, whole(images))


def test_frozen_stages_have_no_gradient_and_stay_in_evaluation():
    encoder = build_encoder("resnet18", train=1)
    encoder.train()
    assert not any(p.requires_grad for p in encoder.frozen.parameters())
    assert all(p.requires_grad for p in encoder.trained.parameters())
    before = {k: v.clone() for k, v in encoder.state_dict().items() if "running" in k}
    encoder.memory(encoder.features(torch.randn(4, 3, 64, 64)))
    after = encoder.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


def test_batch_statistics_move_where_they_are_not_frozen():
    encoder = build_encoder("resnet18", train="all", freeze_batch_norm=False).train()
    before = encoder.trained[0][1].running_mean.clone()
    encoder.memory(encoder.features(torch.randn(4, 3, 64, 64)))
    assert not torch.equal(encoder.trained[0][1].running_mean, before)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_of_weights_is_loaded(tmp_path, suffix):
    model = torchvision.models.get_model("resnet18", weights=None)
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(model.state_dict(), path)
    else:
        save_file(model.state_dict(), path)
    encoder = build_encoder("resnet18", weights=path)
    torch.testing.assert_close(encoder.frozen[0][0].weight, model.conv1.weight)


def test_weights_that_do_not_fit_are_named(tmp_path):
    state = torchvision.models.get_model("resnet18", weights=None).state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    del state["layer4.1.bn2.weight"]
    state["strange"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as raised:
        build_encoder("resnet18", weights=tmp_path / "w.pth")
    for name in ("layer1.0.conv1.weight", "(1, 2, 3, 3)", "layer4.1.bn2.weight", "strange"):
        assert name in str(raised.value)


def test_a_file_that_is_no_weights(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(b"not weights at all")
    with pytest.raises(WeightsError, match="not a file of weights"):
        build_encoder("resnet18", weights=path)
    with pytest.raises(WeightsError, match="no weights file"):
        build_encoder("resnet18", weights=tmp_path / "absent.pth")


def test_a_pickle_is_not_executed(tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "w.pth").write_bytes(pickle.dumps({"conv1.weight": Trap()}))
    with pytest.raises(WeightsError):
        build_encoder("resnet18", weights=tmp_path / "w.pth")
    assert not (tmp_path / "sprung").exists()


def test_weights_that_cannot_be_downloaded(monkeypatch, tmp_path):
    def offline(*_args, **_options):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"could not download IMAGENET1K_V1 of resnet18.*a file"):
        build_encoder("resnet18", weights="IMAGENET1K_V1")


def test_unknown_names_say_what_is_known():
    with pytest.raises(ConfigError, match="resnet50"):
        build_encoder("resnet5")
    with pytest.raises(ConfigError, match="IMAGENET1K_V1"):
        build_encoder("resnet18", weights="IMAGENET_V9")
    with pytest.raises(ConfigError, match="5 stages"):
        build_encoder("resnet18", train=6)
