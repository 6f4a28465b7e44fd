"""ViT, DeiT and BLIP's picture encoder as our ViT: settings and tensors."""

from __future__ import annotations

from typing import Any

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
        "depth": config.integer("num_hidden_layers", 12),
        "width": config.integer("hidden_size", 768),
        "heads": config.integer("num_attention_heads", 12),
        "mlp": config.integer("intermediate_size", 3072),
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
    if not isinstance(value, int):
        raise ModelError(
            f"{config.place}: {key} = {value!r} is not supported; supported: a square's"
        )
    return value


def vit_state(tensors: Tensors, depth: int, prefix: str) -> dict[str, Tensor]:
    """ViT's or DeiT's tensors by the names of `ViTEncoder.stages`; `prefix` ends in a dot."""
    start = f"{prefix}embeddings."
    leading = [tensors.take(f"{start}cls_token")]
    if f"{start}distillation_token" in tensors:
        leading.append(tensors.take(f"{start}distillation_token"))
    state = {
        "embedding.prefix": torch.cat(leading, 1),
        "embedding.positions": tensors.take(f"{start}position_embeddings"),
    }
    modules = [
        ("embedding.projection", f"{start}patch_embeddings.projection"),
        ("norm", f"{prefix}layernorm"),
    ]
    for n in range(depth):
        ours, theirs = f"block_{n}", f"{prefix}encoder.layer.{n}"
        modules += [
            (f"{ours}.ln_1", f"{theirs}.layernorm_before"),
            (f"{ours}.self_attention.out_proj", f"{theirs}.attention.output.dense"),
            (f"{ours}.ln_2", f"{theirs}.layernorm_after"),
            (f"{ours}.mlp.0", f"{theirs}.intermediate.dense"),
            (f"{ours}.mlp.3", f"{theirs}.output.dense"),
        ]
        parts = [f"{theirs}.attention.attention.{part}" for part in ("query", "key", "value")]
        weights = [tensors.take(f"{part}.weight") for part in parts]
        # qkv_bias = false leaves them out, which is a bias of nought.
        biases = [
            tensors.take(f"{part}.bias")
            if f"{part}.bias" in tensors
            else weight.new_zeros(len(weight))
            for part, weight in zip(parts, weights, strict=True)
        ]
        state[f"{ours}.self_attention.in_proj_weight"] = torch.cat(weights)
        state[f"{ours}.self_attention.in_proj_bias"] = torch.cat(biases)
    return state | tensors.rename(modules)


def blip_vision_state(tensors: Tensors, depth: int, prefix: str) -> dict[str, Tensor]:
    """BLIP's picture encoder by the names of `ViTEncoder.stages`; `prefix` ends in a dot."""
    start = f"{prefix}embeddings."
    state = {
        "embedding.prefix": tensors.take(f"{start}class_embedding"),
        "embedding.positions": tensors.take(f"{start}position_embedding"),
    }
    modules = [
        ("embedding.projection", f"{start}patch_embedding"),
        ("norm", f"{prefix}post_layernorm"),
    ]
    for n in range(depth):
        ours, theirs = f"block_{n}", f"{prefix}encoder.layers.{n}"
        modules += [
            (f"{ours}.ln_1", f"{theirs}.layer_norm1"),
            (f"{ours}.self_attention.out_proj", f"{theirs}.self_attn.projection"),
            (f"{ours}.ln_2", f"{theirs}.layer_norm2"),
            (f"{ours}.mlp.0", f"{theirs}.mlp.fc1"),
            (f"{ours}.mlp.3", f"{theirs}.mlp.fc2"),
        ]
        for kind in ("weight", "bias"):
            packed = tensors.take(f"{theirs}.self_attn.qkv.{kind}")
            state[f"{ours}.self_attention.in_proj_{kind}"] = packed
    return state | tensors.rename(modules)
