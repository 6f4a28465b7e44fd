"""Picture encoders from torchvision, cut into stages of which the first ones may be frozen.

Knows no decoder. Weights come from torchvision by name, from a file, or from nowhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.config import is_weights_file
from pipeline.errors import ConfigError, WeightsError
from pipeline.models.captioner import Encoder

FAMILIES = r"(resnet\d+|mobilenet_v2|mobilenet_v3_(small|large))"
RGB = tuple[float, float, float]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class GridEncoder(Encoder):
    """A CNN without its head: normalised pictures [B, 3, H, W] to a grid [B, C, h, w]."""

    def __init__(self, stages: nn.Sequential, frozen: int, freeze_batch_norm: bool) -> None:
        super().__init__()
        self.frozen = stages[:frozen]
        self.trained = stages[frozen:]
        self.freeze_batch_norm = freeze_batch_norm
        self.frozen.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> GridEncoder:
        """Training mode, with batch statistics fixed where they are frozen."""
        super().train(mode)
        self.frozen.eval()
        if self.freeze_batch_norm:
            for module in self.trained.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def features(self, images: Tensor) -> Tensor:
        """The frozen stages."""
        # Channels last: about twice the speed on a CPU (oneDNN), and what tensor cores want.
        out: Tensor = self.frozen(images.contiguous(memory_format=torch.channels_last))
        return out

    def memory(self, features: Tensor) -> Tensor:
        """The trained stages."""
        out: Tensor = self.trained(features)
        return out


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` is an encoder that can be built."""
    if not re.fullmatch(FAMILIES, name) or name not in torchvision.models.list_models():
        known = [m for m in torchvision.models.list_models() if re.fullmatch(FAMILIES, m)]
        raise ConfigError(f"unknown encoder {name!r}; known: {', '.join(sorted(known))}")


def build_encoder(
    name: str,
    *,
    train: Literal["none", "all"] | int = "none",
    freeze_batch_norm: bool = True,
    weights: str | Path | None = None,
) -> GridEncoder:
    """A torchvision CNN, its last stages trainable as `train` says.

    Args:
        name: a torchvision ResNet, MobileNetV2 or MobileNetV3.
        train: "none", "all", or how many of the last stages are fine-tuned.
        freeze_batch_norm: keep batch statistics fixed in the trained stages too.
        weights: a torchvision weights name, a file of a state dict of the whole torchvision
            model, or None for random weights.

    Raises:
        ConfigError: an unknown name or weights name, or more stages than there are.
        WeightsError: a file whose tensors do not fit (names them), or a failed download.
    """
    check_name(name)
    named = weights if isinstance(weights, str) else None
    if named is not None:
        _weights_enum(name, named)
    try:
        model = torchvision.models.get_model(name, weights=named)
    except (OSError, RuntimeError) as error:  # no network, or a file that is not what it should be
        if named is None:
            raise
        raise WeightsError(
            f"torchvision could not download {named} of {name} ({error}); "
            "connect, or give a file as train.encoder.weights"
        ) from None
    if isinstance(weights, Path):
        load_weights(model, weights)
    stages = _stages(model)
    frozen = {"none": len(stages), "all": 0}.get(
        str(train), len(stages) - int(train) if isinstance(train, int) else 0
    )
    if not 0 <= frozen <= len(stages):
        raise ConfigError(f"train.encoder.train = {train}: {name} has {len(stages)} stages")
    encoder = GridEncoder(stages, frozen, freeze_batch_norm)
    encoder.to(memory_format=torch.channels_last)
    return encoder


def weights_statistics(name: str, weights: str | None) -> tuple[RGB, RGB]:
    """Mean and standard deviation on 0..1 that belong to named weights; ImageNet's otherwise."""
    if weights is None or is_weights_file(weights):
        return IMAGENET_MEAN, IMAGENET_STD
    preset = _weights_enum(name, weights).transforms()
    (r, g, b), (rs, gs, bs) = preset.mean, preset.std
    return (r, g, b), (rs, gs, bs)


def _weights_enum(name: str, weights: str) -> torchvision.models.WeightsEnum:
    enum = torchvision.models.get_model_weights(name)
    if weights not in enum.__members__:
        known = ", ".join(enum.__members__)
        raise ConfigError(
            f"train.encoder.weights = {weights!r}: {name} has {known}; or a file, or null"
        )
    return enum[weights]


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a whole state dict into `model`; a classification head may be absent from the file.

    Raises:
        WeightsError: no such file, not a state dict, or tensors that do not fit.
    """
    state = _read_state(path)
    own = model.state_dict()
    head = ("fc.", "classifier.")
    missing = [
        k for k in own if k not in state and not k.startswith(head) and "num_batches" not in k
    ]
    unknown = [k for k in state if k not in own]
    shapes = [
        f"{k} {tuple(state[k].shape)} instead of {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape and not k.startswith(head)
    ]
    problems = [
        _name("missing", missing),
        _name("unknown", unknown),
        _name("of another shape", shapes),
    ]
    if any(problems):
        raise WeightsError(f"{path} does not fit the encoder: " + "; ".join(filter(None, problems)))
    fitting = {k: v for k, v in state.items() if v.shape == own[k].shape}
    model.load_state_dict(fitting, strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; see train.encoder.weights and data_root")
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  both libraries raise many kinds on hostile bytes
        raise WeightsError(f"{path} is not a file of weights: {type(error).__name__}") from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no state dict (a mapping of names to tensors)")
    return state


def _name(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f", … {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} tensors {what}: {', '.join(names[:5])}{more}"


def _stages(model: nn.Module) -> nn.Sequential:
    if isinstance(model, torchvision.models.ResNet):
        stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        return nn.Sequential(stem, model.layer1, model.layer2, model.layer3, model.layer4)
    features = model.features
    assert isinstance(features, nn.Sequential)
    return features
