"""Weights: files and names, what is wrapped around them, and what does not fit."""

from __future__ import annotations

import pickle
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import ConfigError, WeightsError
from pipeline.models.encoders import build_encoder
from pipeline.models.weights import fit, read_state


@pytest.fixture(scope="module")
def resnet() -> dict[str, torch.Tensor]:
    return torchvision.models.get_model("resnet18", weights=None).state_dict()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_is_loaded_and_said(tmp_path, suffix, resnet, capsys):
    path = tmp_path / f"weights{suffix}"
    (torch.save if suffix == ".pth" else save_file)(resnet, path)
    encoder = build_encoder("resnet18", size=32, weights=path)
    assert torch.equal(encoder.frozen[0][0].weight, resnet["conv1.weight"])
    said = f"resnet18: {len(resnet) - 2} of {len(resnet)} tensors from {path}"
    assert capsys.readouterr().err == f"encoder {said}; its classification head is not used\n"


def test_a_head_may_be_absent_or_of_another_size(tmp_path, resnet, capsys):
    body = {key: value for key, value in resnet.items() if not key.startswith("fc.")}
    for head in ({}, {"fc.weight": torch.zeros(7, 512), "fc.bias": torch.zeros(7)}):
        torch.save({**body, **head}, tmp_path / "w.pth")
        build_encoder("resnet18", size=32, weights=tmp_path / "w.pth")
        assert ("head is not used" in capsys.readouterr().err) == bool(head)


def test_numbers_that_are_not_finite_are_refused(tmp_path, resnet):
    conv = resnet["conv1.weight"].clone()
    conv[0, 0, 0, 0] = float("nan")
    torch.save({**resnet, "conv1.weight": conv}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="NaN or infinity: conv1"):
        build_encoder("resnet18", size=32, weights=tmp_path / "w.pth")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {f"module.{key}": value for key, value in state.items()},
        lambda state: {"state_dict": {f"model.module.{k}": v for k, v in state.items()}},
    ],
)
def test_what_training_programs_wrap_around_is_taken_off(tmp_path, wrap):
    state = {"a.weight": torch.ones(2), "b.weight": torch.zeros(2)}
    torch.save(wrap(state), tmp_path / "w.pth")
    found = read_state(tmp_path / "w.pth")
    assert found.keys() == state.keys()
    assert torch.equal(found["a.weight"], state["a.weight"])


def test_two_state_dicts_in_a_file_are_not_chosen_between(tmp_path):
    state = {"weight": torch.ones(2)}
    torch.save({"model": state, "model_ema": state}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"several state dicts \(model, model_ema\)"):
        read_state(tmp_path / "w.pth")


def test_a_prefix_of_some_names_alone_stays(tmp_path):
    torch.save({"module.a": torch.ones(2), "b": torch.ones(2)}, tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth").keys() == {"module.a", "b"}


def test_weights_that_do_not_fit_are_named(tmp_path, resnet):
    state = dict(resnet)
    state["layer1.0.conv1.weight"] = torch.zeros(1, 2, 3, 3)
    del state["layer4.1.bn2.weight"]
    state["strange"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as raised:
        build_encoder("resnet18", size=32, weights=tmp_path / "w.pth")
    for name in ("layer1.0.conv1.weight", "(1, 2, 3, 3)", "layer4.1.bn2.weight", "strange"):
        assert name in str(raised.value)


def test_missing_batch_counters_are_no_mismatch(resnet):
    state = {k: v for k, v in resnet.items() if not k.endswith("num_batches_tracked")}
    model = torchvision.models.get_model("resnet18", weights=None)
    fit(model, state, name="resnet18", origin="here", head=("fc.",))
    assert torch.equal(model.conv1.weight, resnet["conv1.weight"])


def test_a_wrong_shape_is_not_called_missing():
    with pytest.raises(WeightsError) as raised:
        fit(nn.Linear(2, 3), {"weight": torch.zeros(3, 3), "bias": torch.zeros(3)}, name="x", origin="y", head=("head.",))  # fmt: skip
    assert str(raised.value) == (
        "y does not fit x: 1 tensors of another shape: weight (3, 3) instead of (3, 2)"
    )


def test_files_that_are_no_weights(tmp_path):
    path = tmp_path / "w.pth"
    with pytest.raises(WeightsError, match="no weights file"):
        read_state(path)
    path.write_bytes(b"not weights at all")
    with pytest.raises(WeightsError, match="not a file of weights"):
        read_state(path)
    torch.save([1, 2], path)
    with pytest.raises(WeightsError, match="holds no state dict"):
        read_state(path)


def test_a_pickle_is_not_executed(tmp_path, recwarn):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "w.pth").write_bytes(pickle.dumps({"conv1.weight": Trap()}))
    with pytest.raises(WeightsError, match="not a file of weights"):
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "sprung").exists()
    assert not recwarn.list


def test_named_weights_come_from_torchs_own_cache(monkeypatch, tmp_path, resnet, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url
    cached = tmp_path / "hub" / "checkpoints" / url.rpartition("/")[2]
    cached.parent.mkdir(parents=True)
    torch.save(resnet, cached)
    encoder = build_encoder("resnet18", size=32, weights="DEFAULT")
    assert torch.equal(encoder.frozen[0][0].weight, resnet["conv1.weight"])
    said = capsys.readouterr().err
    assert "tensors from DEFAULT" in said
    assert "downloading" not in said


def test_weights_that_cannot_be_downloaded(monkeypatch, tmp_path):
    def offline(*_args, **_options):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=r"could not download IMAGENET1K_V1 of resnet18.*a file"):
        build_encoder("resnet18", weights="IMAGENET1K_V1")


def test_unknown_weights_say_what_is_known():
    with pytest.raises(ConfigError, match="IMAGENET1K_V1"):
        build_encoder("resnet18", weights="IMAGENET_V9")
    with pytest.raises(ConfigError, match="vit has no named weights; or a file"):
        build_encoder("vit", weights="DEFAULT", patch=8, depth=1, width=8, heads=1, mlp=8)
