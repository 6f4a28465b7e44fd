"""GPT-2 as our GPT decoder: with cross-attention as it is, without as a start for training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.errors import ModelError, WeightsError
from pipeline.models.gpt import Block, GPTDecoder
from pipeline.models.importers.checkpoint import Checkpoint
from pipeline.models.importers.settings import Settings
from pipeline.models.importers.weights import Tensors

ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu"}
UNUSED = r".*\.(attn|crossattention)\.(bias|masked_bias)"
"""Masks that old releases saved with the weights."""

# Of a block: our module, theirs. GPT-2's projections keep their weights as [inputs, outputs].
NORMS = (("norm_self", "ln_1"), ("norm_mlp", "ln_2"))
PROJECTIONS = (
    ("self_qkv", "attn.c_attn"),
    ("self_out", "attn.c_proj"),
    ("mlp_up", "mlp.c_fc"),
    ("mlp_down", "mlp.c_proj"),
)
CROSS_NORMS = (("norm_cross", "ln_cross_attn"),)
CROSS_PROJECTIONS = (
    ("cross_query", "crossattention.q_attn"),
    ("cross_keys_values", "crossattention.c_attn"),
    ("cross_out", "crossattention.c_proj"),
)


def decoder_settings(config: Settings) -> dict[str, Any]:
    """The `decoder` section of our architecture from GPT-2's configuration.

    Raises:
        ModelError: a setting that our decoder cannot express.
    """
    config.require("activation_function", *ACTIVATIONS)
    config.require("scale_attn_weights", True)
    config.require("scale_attn_by_inverse_layer_idx", False)
    width = config.size("n_embd", 768)
    return {
        "kind": "gpt",
        "width": width,
        "layers": config.size("n_layer", 12),
        "heads": config.size("n_head", 12),
        "mlp": config.size("n_inner", 4 * width),
        "positions": config.size("n_positions", 1024),
        "activation": ACTIVATIONS[config.get("activation_function", "gelu_new")],
        "eps": config.number("layer_norm_epsilon", 1e-5),
        "dropout": config.number("resid_pdrop", 0.1),
    }


def decoder_state(
    tensors: Tensors, layers: int, *, prefix: str, head: str, cross: bool
) -> dict[str, Tensor]:
    """GPT-2's tensors by our names; `prefix` is where its transformer stands, with the dot."""
    words = f"{prefix}wte.weight"
    state = {
        "embed.weight": tensors.take(words),
        "position.weight": tensors.take(f"{prefix}wpe.weight"),
        **tensors.rename([("norm", f"{prefix}ln_f")]),
    }
    tensors.tied(head, words)
    norms = (*NORMS, *CROSS_NORMS) if cross else NORMS
    projections = (*PROJECTIONS, *CROSS_PROJECTIONS) if cross else PROJECTIONS

    def pairs(parts: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        return [
            (f"blocks.{n}.{ours}", f"{prefix}h.{n}.{theirs}")
            for n in range(layers)
            for ours, theirs in parts
        ]

    state |= tensors.rename(pairs(norms))
    projected = tensors.rename(pairs(projections))
    return state | {k: v.T.contiguous() if v.ndim == 2 else v for k, v in projected.items()}


def initialise(decoder: GPTDecoder, directory: Path) -> None:
    """Fill a new decoder with a GPT-2 checkpoint's weights (GPT2LMHeadModel or GPT2Model).

    What GPT-2 has not (cross-attention and the bridge to the encoder) stays as it is. A decoder
    may have fewer positions.

    Raises:
        ModelError: not a GPT-2 checkpoint, or one that our decoder cannot express.
        WeightsError: the decoder has another shape; says which settings fit the checkpoint.
    """
    checkpoint = Checkpoint.open(directory)
    if checkpoint.config["model_type"] != "gpt2":
        raise ModelError(
            f"{directory} holds a {checkpoint.config['model_type']} model; train.decoder.weights is "
            "for gpt2 checkpoints"
        )
    settings = decoder_settings(Settings(checkpoint.config, str(directory / "config.json")))
    _check_fit(decoder, settings, directory)
    tensors = Tensors(checkpoint.tensors(), str(directory))
    prefix = "transformer." if "transformer.wte.weight" in tensors else ""
    state = decoder_state(
        tensors, settings["layers"], prefix=prefix, head="lm_head.weight", cross=False
    )
    known, needed = len(state["embed.weight"]), decoder.embed.num_embeddings
    if known != needed:
        raise WeightsError(
            f"{directory} knows {known} tokens, the tokenizer {needed}: use the checkpoint's own "
            f"(train.tokenizer with kind: file, path: {directory})"
        )
    state["position.weight"] = state["position.weight"][: decoder.positions]
    decoder.load_state_dict(state, strict=False)


def _check_fit(decoder: GPTDecoder, settings: dict[str, Any], directory: Path) -> None:
    block = decoder.blocks[0]
    assert isinstance(block, Block)
    have = {
        "width": decoder.embed.embedding_dim,
        "layers": len(decoder.blocks),
        "heads": decoder.heads,
        "mlp": block.mlp_up.out_features,
        "activation": block.activation,
        "eps": decoder.norm.eps,
    }
    differ = [name for name, value in have.items() if value != settings[name]]
    if decoder.positions > settings["positions"]:
        differ.append("positions")
    if differ:
        wanted = ", ".join(f"{name} = {settings[name]}" for name in differ)
        raise WeightsError(
            f"{directory} fits a train.decoder with {wanted}, which this one has not"
        )
