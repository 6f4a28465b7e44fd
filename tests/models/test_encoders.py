"""Encoders: every family by name, its stages, what is frozen, and what it gives."""

from __future__ import annotations

import json

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from pipeline.config import load_config
from pipeline.errors import ConfigError
from pipeline.models.encoders import build_encoder, check_name, known_encoders

# The smallest member of each family.
GRIDS = [
    "resnet18",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "regnet_x_400mf",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "convnext_tiny",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "swin_t",
    "swin_v2_t",
]
TINY_VIT = {"patch": 8, "depth": 2, "width": 32, "heads": 4, "mlp": 48}


def torchvisions_grid(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The grid [B, h * w, C] inside torchvision's own forward pass: what is pooled."""
    if not hasattr(model, "avgpool"):  # MobileNetV2 pools without a module
        return model.features(images).flatten(2).transpose(1, 2)
    seen = []
    model.avgpool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(images)
    return seen[0].flatten(2).transpose(1, 2)


@pytest.mark.parametrize("name", GRIDS)
@torch.inference_mode()
def test_features_then_memory_are_torchvisions_own_grid(name, tmp_path):
    model = torchvision.models.get_model(name, weights=None).eval()
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    encoder = build_encoder(name, train=2, size=64, weights=tmp_path / "w.safetensors")
    images = torch.randn(2, 3, 64, 64)
    tokens = encoder.memory(encoder.features(images))
    torch.testing.assert_close(tokens, torchvisions_grid(model, images), atol=2e-4, rtol=1e-3)
    assert tokens.shape[1:] == (encoder.layout.tokens, encoder.width)
    assert encoder.layout == (0, 2, 2)


@torch.inference_mode()
def test_rows_of_the_grid_are_rows_of_the_picture():
    encoder = build_encoder("resnet18", size=64)
    top = torch.zeros(1, 3, 64, 64)
    top[:, :, :8] = 5.0
    seen = encoder.memory(encoder.features(top)) - encoder.memory(encoder.features(0 * top))
    first_row, second_row = seen[0].abs().sum(1).unflatten(0, encoder.layout[1:]).sum(1)
    assert first_row > second_row


def test_frozen_stages_have_no_gradient_and_stay_in_evaluation():
    encoder = build_encoder("resnet18", train=1, size=64)
    encoder.train()
    assert not any(p.requires_grad for p in encoder.frozen.parameters())
    assert all(p.requires_grad for p in encoder.trained.parameters())
    before = {k: v.clone() for k, v in encoder.state_dict().items() if "running" in k}
    encoder.memory(encoder.features(torch.randn(4, 3, 64, 64)))
    after = encoder.state_dict()
    assert all(torch.equal(after[k], v) for k, v in before.items())


@pytest.mark.parametrize(
    ("name", "settings"), [("convnext_tiny", {}), ("swin_t", {}), ("vit", TINY_VIT)]
)
def test_a_training_step_moves_only_what_is_trained(name, settings):
    torch.manual_seed(0)
    encoder = build_encoder(name, train=1, size=32, **settings).train()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in encoder.parameters() if p.requires_grad], lr=1.0)
    tokens = encoder.memory(encoder.features(torch.randn(2, 3, 32, 32)))
    (tokens * torch.randn_like(tokens)).sum().backward()
    optimiser.step()
    moved = {k for k, v in encoder.state_dict().items() if not torch.equal(v, before[k])}
    assert moved
    assert all(key.startswith("trained.") for key in moved)


def test_batch_statistics_move_where_they_are_not_frozen():
    encoder = build_encoder("resnet18", train="all", freeze_batch_norm=False, size=64).train()
    before = encoder.trained[0][1].running_mean.clone()
    encoder.memory(encoder.features(torch.randn(4, 3, 64, 64)))
    assert not torch.equal(encoder.trained[0][1].running_mean, before)


@pytest.mark.parametrize(("name", "settings"), [("resnet18", {}), ("vit", TINY_VIT)])
@torch.inference_mode()
def test_wherever_training_starts_the_outcome_is_the_same(name, settings):
    images = torch.randn(1, 3, 32, 32)
    found = []
    for train in ("none", 1, "all"):
        torch.manual_seed(0)
        encoder = build_encoder(name, train=train, size=32, **settings)
        found.append(encoder.memory(encoder.features(images)))
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


@pytest.mark.parametrize(
    ("name", "settings"), [("mobilenet_v3_small", {}), ("swin_v2_t", {}), ("vit", TINY_VIT)]
)
@torch.inference_mode()
def test_tensors_written_and_read_give_the_same_tokens(name, settings, tmp_path):
    first, second = (build_encoder(name, train=1, size=32, **settings) for _ in range(2))
    tensors = {key: value.contiguous() for key, value in first.state_dict().items()}
    save_file(tensors, tmp_path / "w.safetensors")
    images = torch.randn(1, 3, 32, 32)
    expected = first.memory(first.features(images))
    assert not torch.equal(second.memory(second.features(images)), expected)
    second.load_state_dict(load_file(tmp_path / "w.safetensors"))
    assert torch.equal(second.memory(second.features(images)), expected)


def test_unknown_names_say_what_is_near():
    with pytest.raises(ConfigError, match="resnet50"):
        build_encoder("resnet5")
    with pytest.raises(ConfigError, match=r"did you mean convnext_tiny"):
        check_name("convnext_tin")
    with pytest.raises(
        ConfigError, match=r"did you mean vit_b_16, .*There are torchvision's ResNet"
    ):
        check_name("vit_b_17")
    with pytest.raises(
        ConfigError, match=r"encoder 'inception_v3'\. There are torchvision's ResNet"
    ):
        check_name("inception_v3")  # a model, but of no family that ends in a grid
    with pytest.raises(ConfigError, match="5 stages"):
        build_encoder("resnet18", train=6)
    with pytest.raises(ConfigError, match="patch: settings of the encoder vit, not of resnet18"):
        build_encoder("resnet18", patch=16)


def test_every_family_has_members():
    known = known_encoders()
    assert set(GRIDS) | {"vit", "vit_b_16", "vit_h_14", "regnet_y_128gf", "resnet152"} <= set(known)
    assert not [name for name in known if name.startswith(("fcn", "quantized", "swin3d", "mvit"))]


def test_the_settings_are_what_build_takes():
    sizes = ["patch=8", "depth=1", "width=16", "heads=2"]
    config = load_config(None, ["train.encoder.name=vit", *(f"train.encoder.{s}" for s in sizes)])
    settings = config.train.encoder.model_dump(mode="json", exclude={"weights"})
    encoder = build_encoder(**json.loads(json.dumps(settings)), size=32)
    assert (encoder.width, encoder.layout) == (16, (1, 4, 4))
    assert encoder.stages.block_0.mlp[0].out_features == 64  # 4 x width where nothing is said
    build_encoder(**load_config().train.encoder.model_dump(mode="json", exclude={"weights"}))


@pytest.mark.parametrize("width", ["32.0", "'32'", "'32.0'"])
def test_a_width_that_is_a_whole_number_in_other_letters(width):
    config = load_config(
        None, ["train.encoder.name=vit", "train.encoder.heads=2", f"train.encoder.width={width}"]
    )
    assert (config.train.encoder.width, config.train.encoder.mlp) == (32, 128)


def wrong(*overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load_config(None, [f"train.{override}" for override in overrides])
    return str(raised.value)


def test_settings_that_cannot_be_are_refused_before_any_work():
    vit = "encoder.name=vit"
    assert "heads = 5 must divide width = 384" in wrong(vit, "encoder.heads=5")
    message = wrong(vit, "transform.size=100")
    assert "transform.size = 100 must be a multiple of encoder.patch = 16" in message
    assert "depth, heads: only of name = vit" in wrong("encoder={depth: 2, heads: 2}")
    assert "only of name = vit, not of swin_t" in wrong("encoder={name: swin_t, depth: 2}")
    for near in ("Vit", "vitt", "ViT"):
        assert f"name = '{near}': did you mean vit?" in wrong(f"encoder={{name: {near}, depth: 2}}")
    assert "encoder.train = -1" in wrong("encoder.train=-1")
    assert "greater than or equal to 0" in wrong("encoder.train=-1")
    assert 'in quotes: "timm:test_vit"' in wrong("encoder.name=timm: test_vit")
    assert 'in quotes: "timm:<model>"' in wrong("encoder.name=timm:")
    for path in ("tokenizer={kind: file, path: ''}", "encoder.weights=''"):
        assert "at least 1 character" in wrong(path)
    assert "encoder.width = 'wide'" in wrong(vit, "encoder.width=wide")
    assert "encoder.width = inf" in wrong(vit, "encoder.width=.inf")
    assert "vit has no named weights" in wrong(vit, "encoder.weights=IMAGENET1K_V1")
    assert "train.transform.std" in wrong("transform.std=[0, 1, 1]")
