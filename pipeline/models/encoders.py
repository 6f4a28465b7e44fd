"""An encoder by name: a plain table of families, and what builds each.

Knows no decoder. Weights come from torchvision or timm by name, from a file, or from nowhere.
"""

from __future__ import annotations

import difflib
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import ConfigError, WeightsError
from pipeline.models.captioner import Encoder
from pipeline.models.cnn import GridEncoder, cut
from pipeline.models.levels import AllLevels
from pipeline.models.same_padding import pad_as_tensorflow
from pipeline.models.stages import Train
from pipeline.models.timm_encoder import PREFIX, build_timm, timm_recipe
from pipeline.models.vit import ViTEncoder, from_torchvision, resample_positions
from pipeline.models.weights import download_state, fit, read_state

GRIDS = {
    "ResNet": r"resnet\d+",
    "ResNeXt": r"resnext\d+_\w+",
    "Wide ResNet": r"wide_resnet\d+_2",
    "RegNet": r"regnet_[xy]_\w+",
    "EfficientNet": r"efficientnet_(b\d|v2_[sml])",
    "ConvNeXt": r"convnext_\w+",
    "MobileNet": r"mobilenet_(v2|v3_small|v3_large)",
    "Swin": r"swin_(v2_)?[tsb]",
}
"""torchvision's names of the networks that end in a grid."""
GRID = re.compile("|".join(GRIDS.values()))
VIT = r"vit_[blh]_\d+"
"""torchvision's names of Vision Transformers; `vit` alone is one of any size."""
HEADS = ("fc.", "classifier.", "head.", "heads.")
"""What the names of a torchvision classifier's head start with."""


def known_encoders() -> list[str]:
    """The names that need no extra: torchvision's, and `vit`."""
    import torchvision  # a second or more, which `vit` does not need

    families = re.compile("|".join((*GRIDS.values(), VIT)))
    return ["vit", *filter(families.fullmatch, torchvision.models.list_models())]


def check_name(name: str) -> None:
    """Raise ConfigError unless `name` is an encoder that can be built here."""
    if name.startswith(PREFIX):
        timm_recipe(name)
    elif name != "vit" and name not in (known := known_encoders()):
        near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else "."
        raise ConfigError(
            f"unknown encoder {name!r}{hint} There are torchvision's {', '.join(GRIDS)} and ViT, "
            "vit (of any size), and timm:<model>"
        )


def build_encoder(
    name: str,
    *,
    size: int = 224,
    train: Train = "none",
    freeze_batch_norm: bool = True,
    weights: str | Path | None = None,
    padding: str | None = None,
    levels: str | None = None,
    **settings: Any,
) -> Encoder:
    """An encoder, its last stages trainable as `train` says, in evaluation mode.

    Args:
        name: a torchvision model of the families above, `vit`, or `timm:<model>`.
        size: side of the input in pixels; position embeddings are resampled for it.
        train: "none", "all", or how many of the last stages are fine-tuned.
        freeze_batch_norm: keep batch statistics fixed in the trained stages too.
        weights: a torchvision weights name or a timm tag, a file of a state dict of the whole model
            (with or without its head), or None for random weights.
        padding: "same" for weights of torchvision's networks that were trained in TensorFlow.
        levels: "all" for tokens of every level of a convolutional network (`AllLevels`).
        settings: of `vit` alone: patch, depth, width, heads, mlp and what else `ViTEncoder` takes.

    Raises:
        ConfigError: an unknown name or weights name, a size that cannot be, or more stages than
            there are.
        WeightsError: a file whose tensors do not fit (names them), or a failed download.
    """
    check_name(name)
    settings = {key: value for key, value in settings.items() if value is not None}
    if settings and name != "vit":
        raise ConfigError(f"{', '.join(settings)}: settings of the encoder vit, not of {name}")
    for key, value in (("padding", padding), ("levels", levels)):
        if value is not None and (name.startswith("swin") or not GRID.fullmatch(name)):
            raise ConfigError(
                f"{key} = {value!r} is for torchvision's convolutional networks, not for {name}"
            )
    if name.startswith(PREFIX):
        return build_timm(
            name, size=size, train=train, freeze_batch_norm=freeze_batch_norm, weights=weights
        )
    if name == "vit" or re.fullmatch(VIT, name):
        return _build_vit(name, size, train, weights, settings or _vit_settings(name))
    import torchvision

    state = _state(name, weights)
    model = torchvision.models.get_model(name, weights=None)
    if state is not None:
        assert weights is not None
        fit(model, state, name=name, origin=weights, head=HEADS)
    if padding == "same":
        pad_as_tensorflow(model)
    stages = cut(model)
    if levels == "all":
        stages = AllLevels(OrderedDict(stages.named_children()))
    return GridEncoder(
        stages,
        size=size,
        train=train,
        freeze_batch_norm=freeze_batch_norm,
        channels_first=not name.startswith("swin"),
        name=name,
    )


def _state(name: str, weights: str | Path | None) -> dict[str, Tensor] | None:
    """Before the model is made, since it may fail sooner."""
    if isinstance(weights, Path):
        return read_state(weights)
    return None if weights is None else download_state(name, weights)


def _vit_settings(name: str) -> dict[str, Any]:
    """The settings of one of torchvision's ViTs."""
    if name == "vit":
        return {}
    import torchvision

    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None)
    return {
        "patch": model.patch_size,
        "depth": len(model.encoder.layers),
        "width": model.hidden_dim,
        "heads": model.encoder.layers[0].num_heads,
        "mlp": model.mlp_dim,
    }


def _build_vit(
    name: str, size: int, train: Train, weights: str | Path | None, settings: dict[str, Any]
) -> ViTEncoder:
    state = _state(name, weights)
    encoder = ViTEncoder(image_size=size, train=train, name=name, **settings)
    if state is None:
        return encoder
    assert weights is not None
    state, note = from_torchvision(state), ""
    positions, layout = state.get("embedding.positions"), encoder.layout
    if positions is not None and positions.ndim == 3 and positions.shape[1] != layout.tokens:
        try:
            fitted = resample_positions(positions, layout.prefix, layout.rows)
        except ValueError as error:
            raise WeightsError(f"{weights} does not fit {name}: {error}") from None
        note = f"; positions resampled from {positions.shape[1]} to {fitted.shape[1]} tokens"
        state["embedding.positions"] = fitted
    fit(encoder.stages, state, name=name, origin=weights, head=HEADS, note=note)
    return encoder
