"""ViT, DeiT and BLIP's picture encoder as our ViT: settings and tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from pipeline.errors import ModelError
from pipeline.models.importers.settings import Settings
from pipeline.models.importers.weights import Tensors

UNUSED = r".*\.pooler\..*|.*\.mask_token"
EPS = {"vit": 1e-12, "deit": 1e-12, "blip_vision_model": 1e-5}
"""Of the layer norms, where the configuration does not say; and the encoders that are known."""


def encoder_settings(config: Settings, kind: str) -> dict[str, Any]:
    """The `encoder` section of our architecture from a ViT's, DeiT's or BLIP's configuration.

    Raises:
        ModelError: a setting that our encoder cannot express.
    """
    config.require("hidden_act", "gelu")
    config.require("num_channels", 3)
    return {
        "name": "vit",
        "train": "none",
        "patch": _side(config, "patch_size", 16),
        "depth": config.size("num_hidden_layers", 12),
        "width": config.size("hidden_size", 768),
        "heads": config.size("num_attention_heads", 12),
        "mlp": config.size("intermediate_size", 3072),
        "prefix_tokens": 2 if kind == "deit" else 1,
        "eps": config.number("layer_norm_eps", EPS[kind]),
    }


def picture_size(config: Settings, kind: str) -> int:
    """Side of the encoder's input, pixels.

    Raises:
        ModelError: pictures that are not square.
    """
    return _side(config, "image_size", 384 if kind == "blip_vision_model" else 224)


def _side(config: Settings, key: str, default: int) -> int:
    value = config.get(key, default)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if isinstance(value, list):
        raise ModelError(
            f"{config.place}: {key} = {value!r} is not supported; supported: a square's"
        )
    return Settings({key: value}, config.place).size(key, default)


class _Names(NamedTuple):
    """What an encoder calls its tensors, below its own prefix."""

    leading: tuple[str, ...]
    """The class token and, where there is one, the distillation token."""
    positions: str
    projection: str
    norm: str
    layer: str
    """Of a block; {} is its number."""
    block: dict[str, str]
    """Our module's name to theirs, below the block."""
    packed: str = ""
    """Queries, keys and values in one module, or else"""
    parts: tuple[str, ...] = ()
    """in one module each; where these have no bias, it is a bias of nought (qkv_bias = false)."""


VIT = _Names(
    leading=("embeddings.cls_token", "embeddings.distillation_token"),
    positions="embeddings.position_embeddings",
    projection="embeddings.patch_embeddings.projection",
    norm="layernorm",
    layer="encoder.layer.{}.",
    block={
        "ln_1": "layernorm_before",
        "self_attention.out_proj": "attention.output.dense",
        "ln_2": "layernorm_after",
        "mlp.0": "intermediate.dense",
        "mlp.3": "output.dense",
    },
    parts=tuple(f"attention.attention.{part}" for part in ("query", "key", "value")),
)
"""ViT's and DeiT's."""

BLIP = _Names(
    leading=("embeddings.class_embedding",),
    positions="embeddings.position_embedding",
    projection="embeddings.patch_embedding",
    norm="post_layernorm",
    layer="encoder.layers.{}.",
    block={
        "ln_1": "layer_norm1",
        "self_attention.out_proj": "self_attn.projection",
        "ln_2": "layer_norm2",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
    },
    packed="self_attn.qkv",
)


def vit_state(tensors: Tensors, depth: int, prefix: str, names: _Names) -> dict[str, Tensor]:
    """An encoder's tensors by the names of `ViTEncoder.stages`; `prefix` ends in a dot."""
    first, *others = (f"{prefix}{name}" for name in names.leading)
    leading = [first, *(name for name in others if name in tensors)]
    state = {
        "embedding.prefix": torch.cat([tensors.take(name) for name in leading], 1),
        "embedding.positions": tensors.take(f"{prefix}{names.positions}"),
    }
    modules = [
        ("embedding.projection", f"{prefix}{names.projection}"),
        ("norm", f"{prefix}{names.norm}"),
    ]
    for n in range(depth):
        layer = prefix + names.layer.format(n)
        modules += [(f"block_{n}.{ours}", layer + theirs) for ours, theirs in names.block.items()]
        weight, bias = _queries_keys_values(tensors, layer, names)
        state[f"block_{n}.self_attention.in_proj_weight"] = weight
        state[f"block_{n}.self_attention.in_proj_bias"] = bias
    return state | tensors.rename(modules)


def _queries_keys_values(tensors: Tensors, layer: str, names: _Names) -> tuple[Tensor, Tensor]:
    if names.packed:
        packed = f"{layer}{names.packed}"
        return tensors.take(f"{packed}.weight"), tensors.take(f"{packed}.bias")
    parts = [f"{layer}{part}" for part in names.parts]
    weights = [tensors.take(f"{part}.weight") for part in parts]
    biases = [
        tensors.take(f"{part}.bias") if f"{part}.bias" in tensors else weight.new_zeros(len(weight))
        for part, weight in zip(parts, weights, strict=True)
    ]
    return torch.cat(weights), torch.cat(biases)
